-- Who this region is, and names and secrets that are composed in one place only.

create function domicile.here() returns text
language sql stable parallel safe security definer set search_path = pg_catalog, pg_temp
return (select s.value from domicile.setting s where s.name = 'here');
comment on function domicile.here() is 'The name of the region that this database is; NULL until domicile.set_here was called';

create function domicile.must_be_somewhere() returns text
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
begin
    if domicile.here() is null then
        raise object_not_in_prerequisite_state using
            message = 'this database does not know yet which region it is',
            hint = 'select domicile.create_region(''eu'', ''GDPR''); select domicile.set_here(''eu'');';
    end if;
    return domicile.here();
end
$$;
comment on function domicile.must_be_somewhere() is 'The name of this region; raises where it is not set';

create function domicile.is_superuser() returns boolean
language sql stable set search_path = pg_catalog, pg_temp
return (select r.rolsuper from pg_catalog.pg_roles r where r.rolname = current_user);
comment on function domicile.is_superuser() is 'Whether the install is of the full level, when asked inside a function of Domicile';

create function domicile.may_alter(owner oid) returns boolean
language sql stable set search_path = pg_catalog, pg_temp
return domicile.is_superuser() or pg_catalog.pg_has_role(current_user, $1, 'usage');
comment on function domicile.may_alter(oid) is 'Whether Domicile''s owner may change what belongs to this role';

create function domicile.changed(what text, detail jsonb default '{}') returns bigint
language sql set search_path = pg_catalog, pg_temp
as $$ insert into domicile.change (what, detail) values ($1, $2) returning version $$;
comment on function domicile.changed(text, jsonb) is 'Writes the change log and returns the catalog''s new version';

create function domicile.version() returns bigint
language sql stable security definer set search_path = pg_catalog, pg_temp
return coalesce((select max(c.version) from domicile.change c), 0);
comment on function domicile.version() is 'The version of the catalog: grows with every change, never repeats';

create function domicile.foreign_name(role text, region text) returns text
language plpgsql immutable strict set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
begin
    -- PostgreSQL cuts longer names in silence, and "<63 bytes>@eu" cut is the *local* role.
    if octet_length(role || '@' || region) > 63 then
        raise name_too_long using
            message = format('role name "%s@%s" has over 63 bytes; PostgreSQL would cut it to a local role''s name', role, region),
            hint = 'Rename the role, or give the region a shorter name.';
    end if;
    return role || '@' || region;
end
$$;
comment on function domicile.foreign_name(text, text) is 'The name by which a role of a region is known in another; raises past 63 bytes';

create function domicile.border_schema(schema text, region text) returns text
language plpgsql immutable strict set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    name text := case when schema = 'public' then 'to_' || region else 'to_' || region || '$' || schema end;
begin
    if octet_length(name) > 63 then
        raise name_too_long using
            message = format('schema name "%s" has over 63 bytes', name),
            hint = 'Give the schema or the region a shorter name.';
    end if;
    return name;
end
$$;
comment on function domicile.border_schema(text, text) is 'The schema that holds what a region may see of a schema; raises past 63 bytes';

create function domicile.hmac(key bytea, message bytea) returns bytea
language plpgsql immutable strict parallel safe set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    padded bytea := case when length(key) > 64 then sha256(key) else key end;
    inner_pad bytea;
    outer_pad bytea;
begin
    padded := padded || decode(repeat('00', 64 - length(padded)), 'hex');
    inner_pad := padded;
    outer_pad := padded;
    for i in 0..63 loop
        inner_pad := set_byte(inner_pad, i, get_byte(padded, i) # 54);
        outer_pad := set_byte(outer_pad, i, get_byte(padded, i) # 92);
    end loop;
    return sha256(outer_pad || sha256(inner_pad || message));
end
$$;
comment on function domicile.hmac(bytea, bytea) is 'HMAC with SHA-256 (RFC 2104)';

create function domicile.scram_verifier(password text, salt bytea, iterations integer) returns text
language plpgsql immutable strict set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    key bytea := convert_to(password, 'UTF8');
    block bytea := domicile.hmac(key, salt || '\x00000001');
    sum bit(256) := ('x' || encode(block, 'hex'))::bit(256);
    salted bytea := '';
begin
    for i in 2..iterations loop
        block := domicile.hmac(key, block);
        sum := sum # ('x' || encode(block, 'hex'))::bit(256);
    end loop;
    for i in 0..31 loop
        salted := salted || decode(lpad(to_hex(substring(sum from i * 8 + 1 for 8)::int), 2, '0'), 'hex');
    end loop;
    return format('SCRAM-SHA-256$%s:%s$%s:%s', iterations, encode(salt, 'base64'),
        encode(sha256(domicile.hmac(salted, 'Client Key')), 'base64'),
        encode(domicile.hmac(salted, 'Server Key'), 'base64'));
end
$$;
comment on function domicile.scram_verifier(text, bytea, integer) is
    'What PostgreSQL keeps of a password (RFC 5802). One iteration is as good as 4,096 for a secret of 256 random bits: '
    'iterations only slow down the guessing of what people choose';

insert into domicile.secret
values ('guard', sha256((gen_random_uuid()::text || gen_random_uuid()::text || gen_random_uuid()::text)::bytea));

create function domicile.foreign_secret(name text) returns text
language sql stable strict set search_path = pg_catalog, pg_temp
return (select encode(domicile.hmac(s.value, convert_to($1, 'UTF8')), 'hex') from domicile.secret s where s.name = 'guard');
comment on function domicile.foreign_secret(text) is 'The password of the foreign role of this name: 256 bits derived from the guard''s key';

create function domicile.foreign_verifier(name text) returns text
language sql stable strict set search_path = pg_catalog, pg_temp
return (
    select domicile.scram_verifier(domicile.foreign_secret($1),
        substring(domicile.hmac(s.value, convert_to('salt of ' || $1, 'UTF8')) for 16), 1)
    from domicile.secret s where s.name = 'guard'
);
comment on function domicile.foreign_verifier(text) is 'The SCRAM verifier of the foreign role of this name, always the same, so that a changed one is seen';

create function domicile.login_secret(role text, region text) returns text
language plpgsql stable strict security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
begin
    if not exists (select from domicile.foreign_role f where f.role = login_secret.role and f.region = login_secret.region) then
        raise invalid_authorization_specification using
            message = format('role "%s" of region "%s" is not known in region "%s"', role, region, domicile.here()),
            hint = 'A foreign role mirrors a local role of the same name that has privileges on a managed table.';
    end if;
    return domicile.foreign_secret(domicile.foreign_name(role, region));
end
$$;
comment on function domicile.login_secret(text, text) is 'For this region''s guard: the password with which it logs in as "role@region"';

create function domicile.verifier(role text) returns text
language plpgsql stable strict security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    found text;
begin
    -- A superuser passes every wall, so none comes in through a gateway; a foreign role comes in by the guard alone.
    if not exists (
        select from pg_roles r where r.rolname = role and r.rolcanlogin and not r.rolsuper
        and (r.rolvaliduntil is null or r.rolvaliduntil > now())
        and not exists (select from domicile.foreign_role f where f.name = r.rolname)
    ) then
        return null;
    end if;
    if domicile.is_superuser() then
        execute 'select rolpassword from pg_authid where rolname = $1' into found using role;
    else
        select e.verifier into found from domicile.enrolled e where e.role = verifier.role;
    end if;
    return case when found like 'SCRAM-SHA-256$%' then found end;
end
$$;
comment on function domicile.verifier(text) is
    'For this region''s gateway: a local role''s SCRAM verifier, from the server itself (full level) or as enrolled by '
    'domicile.set_password (managed level). NULL for superusers, foreign, expired and unknown roles';

create function domicile.set_password(role text, password text) returns void
language plpgsql strict security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    kept text;
begin
    if session_user <> role and not pg_has_role(session_user, 'domicile_admin', 'usage')
        and not domicile.may_alter((select oid from pg_roles where rolname = session_user)) then
        raise insufficient_privilege using message = format('only "%s" itself or a member of domicile_admin may set its password', role);
    end if;
    if exists (select from pg_roles where rolname = role and rolsuper)
        or exists (select from domicile.foreign_role f where f.name = role) or role like 'domicile\_%' then
        raise insufficient_privilege using message = format('the password of role "%s" is not set here', role);
    end if;
    kept := domicile.scram_verifier(normalize(password, nfkc), substring(sha256(gen_random_uuid()::text::bytea) for 16), 4096);
    execute format('alter role %I password %L', role, kept);
    insert into domicile.enrolled values (role, kept) on conflict on constraint enrolled_pkey
        do update set verifier = excluded.verifier, at = now();
end
$$;
comment on function domicile.set_password(text, text) is
    'Sets a local role''s password and enrolls its verifier for the gateway: needed where Domicile is installed without superuser';

create function domicile.enroll(role text, verifier text) returns void
language sql strict security definer set search_path = pg_catalog, pg_temp
as $$
    insert into domicile.enrolled values ($1, $2)
    on conflict on constraint enrolled_pkey do update set verifier = excluded.verifier, at = now()
$$;
comment on function domicile.enroll(text, text) is 'Enrolls the SCRAM verifier that a role''s password already has (ALTER ROLE through a gateway)';

create function domicile.chain_egress() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
begin
    perform pg_advisory_xact_lock(hashtextextended('domicile.egress', 0));
    new.digest := sha256(coalesce((select e.digest from domicile.egress e order by e.id desc limit 1), '')
        || convert_to(concat_ws('|', new.id, extract(epoch from new.at), new.destination, new.role, new.via, new.relation, new.columns,
            new.rows, new.bytes, new.version), 'UTF8'));
    return new;
end
$$;
comment on function domicile.chain_egress() is 'Chains a row of the ledger to the one before it';
create trigger chain before insert on domicile.egress for each row execute function domicile.chain_egress();
