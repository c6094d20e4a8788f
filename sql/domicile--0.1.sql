-- Built by `python -m domicile.sql.build` from sql/parts: change those, then build again.

-- 00_roles.sql ------------------------------------------------------------------------------------------

-- The schema and the roles that everything else stands on. Roles belong to the whole server, so they may exist already.

do $$
begin
    if to_regnamespace('domicile') is null then
        create schema domicile;
    end if;
end
$$;
comment on schema domicile is
    'Domicile: which region this database is, which tables have a home, and what of them may be seen elsewhere. '
    'Begin with: select * from domicile.exposure; \df+ domicile.*';
revoke all on schema domicile from public;

do $$
declare
    installer name := current_user;
    role text;
    superuser boolean := (select rolsuper from pg_catalog.pg_roles where rolname = current_user);
begin
    foreach role in array array['domicile_views', 'domicile_insert', 'domicile_local', 'domicile_admin'] loop
        if not exists (select from pg_catalog.pg_roles where rolname = role) then
            execute format('create role %I nologin noinherit', role);
        end if;
    end loop;
    if not exists (select from pg_catalog.pg_roles where rolname = 'domicile_node') then
        begin
            create role domicile_node login noinherit replication;
        exception when insufficient_privilege then
            -- A service that does not let its CREATEROLE user hand on REPLICATION: `domicile init` says what to ask for.
            create role domicile_node login noinherit;
        end;
    end if;
    -- The installer makes views over to domicile_views, and is no superuser where a cloud service is.
    if not superuser then
        foreach role in array array['domicile_views', 'domicile_insert'] loop
            if current_setting('server_version_num')::int >= 160000 then
                execute format('grant %I to %I with inherit true, set true', role, installer);
            else
                execute format('grant %I to %I', role, installer);
            end if;
        end loop;
    end if;
end
$$;

-- A comment on a role is the owner of CREATEROLE's to give; on 16 and later only for roles that it made.
do $$
begin
    comment on role domicile_views is 'Domicile: owns the views of the to_... schemas; may read what they show, no more';
    comment on role domicile_insert is 'Domicile: owns the triggers by which rows with masked columns are inserted from abroad';
    comment on role domicile_local is 'Domicile: holds what PUBLIC lost; every role of this region is a member, no foreign role ever';
    comment on role domicile_admin is 'Domicile: its members may call the functions that decide what crosses the border';
    comment on role domicile_node is 'Domicile: control connections of this region''s gateway, guard and agent';
exception when insufficient_privilege then
    null;
end
$$;

-- 01_catalog.sql ------------------------------------------------------------------------------------------

-- What this region knows and has agreed to. Nothing here is read by a role of another region: they have no USAGE on
-- the schema. Tables name a relation by regclass, so that a rename is followed and a dump restores.

create table domicile.setting (
    name text primary key,
    value text not null
);
comment on table domicile.setting is 'here: this region''s name; foreign_connection_limit; and what settle() remembers';

create table domicile.secret (
    name text primary key,
    value bytea not null
);
comment on table domicile.secret is 'guard: the key from which this region''s guard derives the passwords of foreign roles. Never leaves';

create table domicile.region (
    name text primary key check (name ~ '^[a-z][a-z0-9_]{0,15}$'),
    number integer not null unique check (number between 1 and 1023),
    jurisdiction text not null check (jurisdiction <> ''),
    marker uuid
);
comment on table domicile.region is 'The regions of the federation, this one included';
comment on column domicile.region.number is 'carried in the low ten bits of ids: domicile.region_of(id)';
comment on column domicile.region.jurisdiction is 'the law it stands under; policies may name it';
comment on column domicile.region.marker is 'the identity of the region''s database: who does not know it is not that region';

create table domicile.change (
    version bigint generated always as identity primary key,
    at timestamptz not null default clock_timestamp(),
    who text not null default session_user,
    what text not null,
    detail jsonb not null default '{}'
);
comment on table domicile.change is 'Every change of the catalog: its version, when, who, what. The last version is the catalog''s';

create table domicile.mapping (
    rel regclass primary key,
    key_column text not null,
    region_column text not null,
    at_home regclass not null
);
comment on table domicile.mapping is 'Tables that map a key (a country) to a region; at_home is the list of keys at home here';

create table domicile.mapping_entry (
    rel regclass references domicile.mapping on delete cascade,
    key text,
    region text not null references domicile.region,
    primary key (rel, key)
);
comment on table domicile.mapping_entry is
    'What a mapping says, as agreed here: a change of the user''s table counts only once domicile.accept_mapping has taken it over';

create table domicile.locality (
    rel regclass primary key,
    locality text not null check (locality in ('pinned', 'global', 'regional')),
    key_kind text check (key_kind in ('region', 'mapped', 'id', 'parent')),
    columns text[] not null default '{}',
    mapping regclass references domicile.mapping,
    parent regclass,
    parent_columns text[] not null default '{}',
    home text references domicile.region,
    state text not null default 'open' check (state in ('open', 'pinning')),
    accepted text[] not null default '{}',
    check ((locality = 'pinned') = (key_kind is not null)),
    check ((locality = 'regional') = (home is not null))
);
comment on table domicile.locality is 'The managed tables: domicile.set_locality writes it';
comment on column domicile.locality.state is
    'pinning: rows of other regions are still here, nothing is shared yet; domicile.finish_move opens it';
comment on column domicile.locality.accepted is 'constraints and triggers that could speak across the border, accepted by name';

create table domicile.policy (
    rel regclass,
    name text,
    regions text[] check (cardinality(regions) > 0),
    jurisdictions text[] check (cardinality(jurisdictions) > 0),
    roles text[] check (cardinality(roles) > 0),
    rows text,
    clear text[] not null default '{}',
    masks jsonb not null default '{}',
    options jsonb not null default '{}',
    since bigint not null,
    primary key (rel, name),
    check (regions is null or jurisdictions is null)
);
comment on table domicile.policy is
    'What other regions may see of a table. Of the policies that fit a region and role the most specific wins, whole: '
    'one that names roles before one that does not, then regions, then jurisdictions, then all';
comment on column domicile.policy.since is 'the catalog''s version since which it stands as it is';

create table domicile.managed_column (
    rel oid,
    attnum smallint,
    name text not null,
    primary key (rel, attnum)
);
comment on table domicile.managed_column is 'Names of managed tables'' columns when last seen: how a rename is followed';

create table domicile.border_view (
    destination text,
    rel regclass,
    view oid not null,
    definition text not null,
    digest text not null,
    primary key (destination, rel)
);
comment on table domicile.border_view is 'The views of the to_... schemas as they were made: how a tampered one is found';

create table domicile.foreign_role (
    name text primary key,
    role text not null,
    region text not null,
    unique (role, region)
);
comment on table domicile.foreign_role is 'The roles "role@region" that Domicile made; it touches no other';

create table domicile.enrolled (
    role text primary key,
    verifier text not null,
    at timestamptz not null default now()
);
comment on table domicile.enrolled is 'SCRAM verifiers of local roles, where the server does not let the installer read its own';

create table domicile.finding (
    finding text not null,
    object text not null,
    repaired boolean not null,
    at timestamptz not null default clock_timestamp()
);
comment on table domicile.finding is 'What the last settle() found: repaired, or still open';

create table domicile.egress (
    id bigint generated always as identity primary key,
    at timestamptz not null default clock_timestamp(),
    destination text not null,
    role text,
    via text not null,
    relation text,
    columns text[],
    rows bigint not null,
    bytes bigint not null,
    version bigint,
    digest bytea not null
);
comment on table domicile.egress is
    'The ledger of what left this region: append-only, each row''s digest covers the row before it, so that a gap shows';
comment on column domicile.egress.via is 'guard (a live query) or stream (a copy, a feed)';
comment on column domicile.egress.version is 'the catalog''s version whose policies let it leave';

-- 02_identity.sql ------------------------------------------------------------------------------------------

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

-- 10_ids.sql ------------------------------------------------------------------------------------------

-- Ids that carry their region: the low ten bits are the region's number.
--
-- They stay below 2^53 (exact in JavaScript) for 8.8e12 ids of each region. That two regions never make the same id
-- rests on: the regions' numbers differ (a unique key here, agreed when a region is created), the sequence steps by
-- 1024 from a start above every id that existed anywhere before it was aligned, and nobody writes ids by hand.

create sequence domicile.id_sequence as bigint increment by 1024 minvalue 1 start with 1;
comment on sequence domicile.id_sequence is 'Feeds domicile.next_id(); domicile.set_here() starts it at this region''s number';

create function domicile.next_id() returns bigint
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
begin
    if (select value from domicile.setting where name = 'here') is null then
        perform domicile.must_be_somewhere();
    end if;
    return nextval('domicile.id_sequence');
end
$$;
comment on function domicile.next_id() is
    'A new id, unique over the whole federation, that carries this region''s number in its low ten bits. Good as a column default';

create function domicile.region_of(id bigint) returns text
language sql stable strict parallel safe security definer set search_path = pg_catalog, pg_temp
return (select r.name from domicile.region r where r.number = ($1 & 1023) and $1 > 0);
comment on function domicile.region_of(bigint) is 'The region whose number the id carries; NULL where there is none';

create function domicile.primary_key(rel regclass) returns text[]
language sql stable strict set search_path = pg_catalog, pg_temp
return coalesce((
    select array_agg(a.attname::text order by k.place)
    from pg_index i cross join unnest(i.indkey::smallint[]) with ordinality as k (attnum, place)
    join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
    where i.indrelid = $1 and i.indisprimary and k.place <= i.indnkeyatts
), '{}');
comment on function domicile.primary_key(regclass) is 'The columns of a table''s primary key, in its order; empty where it has none';

create function domicile.feeding_sequence(rel regclass, column_name text) returns regclass
language sql stable strict set search_path = pg_catalog, pg_temp
return (
    select coalesce(
        (select d.objid from pg_depend d  -- an identity's own
            where d.refclassid = 'pg_class'::regclass and d.refobjid = a.attrelid and d.refobjsubid = a.attnum
            and d.classid = 'pg_class'::regclass and d.deptype = 'i' and a.attidentity <> ''),
        (select d.refobjid from pg_attrdef f  -- a default that names it, serial's as well
            join pg_depend d on d.classid = 'pg_attrdef'::regclass and d.objid = f.oid and d.refclassid = 'pg_class'::regclass
            join pg_class s on s.oid = d.refobjid and s.relkind = 'S'
            where f.adrelid = a.attrelid and f.adnum = a.attnum limit 1))::regclass
    from pg_attribute a where a.attrelid = $1 and a.attname = $2 and not a.attisdropped
);
comment on function domicile.feeding_sequence(regclass, text) is 'The sequence that feeds a column by identity, serial or a nextval default';

create function domicile.aligned_id(rel regclass) returns text
language sql stable strict set search_path = pg_catalog, pg_temp
return (
    select pk.key[1] from (select domicile.primary_key($1) as key) pk
    join pg_sequence s on s.seqrelid = domicile.feeding_sequence($1, pk.key[1])
    where cardinality(pk.key) = 1 and s.seqincrement = 1024
    and (s.seqstart & 1023) = (select r.number from domicile.region r where r.name = domicile.here())
);
comment on function domicile.aligned_id(regclass) is 'The primary key''s column, where it is fed by a sequence that makes ids of this region';

create function domicile.align_ids(rel regclass, above bigint default 0) returns bigint
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    here text := domicile.must_be_somewhere();
    number integer := (select r.number from domicile.region r where r.name = here);
    key text[] := domicile.primary_key(rel);
    feed regclass;
    type oid;
    greatest_id bigint;
    last bigint;
    called boolean;
    start bigint;
begin
    if cardinality(key) <> 1 then
        return null;
    end if;
    select a.atttypid into type from pg_attribute a where a.attrelid = rel and a.attname = key[1];
    feed := domicile.feeding_sequence(rel, key[1]);
    if feed is null or type not in ('bigint'::regtype, 'integer'::regtype) then
        return null;
    end if;
    -- Rows that come in meanwhile must not take an id above the one that is found here.
    execute format('lock table %s in share row exclusive mode', rel);
    execute format('select coalesce(max(%I), 0) from %s', key[1], rel) into greatest_id;
    execute format('select last_value, is_called from %s', feed) into last, called;
    greatest_id := greatest(greatest_id, above);
    start := case when called then last + 1024 else last end;
    if domicile.aligned_id(rel) is not null and start > greatest_id then
        return start;
    end if;
    greatest_id := greatest(greatest_id, case when called then last else 0 end);
    start := ((greatest_id >> 10) + 1) << 10 | number;
    if type = 'integer'::regtype then
        if start > 2147483647 - 1024 then
            raise numeric_value_out_of_range using
                message = format('column "%s" of table %s is an integer and has no ids left that carry a region', key[1], rel),
                hint = format('alter table %s alter column %I type bigint;', rel, key[1]);
        end if;
        raise warning 'column "%" of table % is an integer: % ids are left for this region', key[1], rel, (2147483647 - start) / 1024
            using hint = format('alter table %s alter column %I type bigint;', rel, key[1]);
    end if;
    execute format('alter sequence %s increment by 1024 start with %s restart with %s', feed, start, start);
    return start;
end
$$;
comment on function domicile.align_ids(regclass, bigint) is
    'Makes the sequence behind a table''s integer primary key give ids that carry this region, above every id here and '
    'above the one given (the greatest of the other regions). Returns the next id; NULL where no sequence feeds the key';

-- 20_mask_functions.sql ------------------------------------------------------------------------------------------

-- Mask functions: what a policy's MASK expressions are made of.
--
-- A mask is evaluated by PostgreSQL wherever a row is shown abroad: in the live view, in the snapshot, in the stream.
-- Rules that every function here keeps:
--   * it never raises on any value (the few that can are listed so in domicile.mask_functions, and get wrapped);
--   * what it can't do safely it answers with NULL, so a mistake withholds and never shows;
--   * it depends on its arguments alone, on no setting of the session: a foreign role may set DateStyle;
--   * names of other functions are qualified by the stored parse tree (SQL-standard bodies), so no search_path matters.
--
-- A keyed mask has two forms. `domicile.pseudonym(value)` is what a policy says. `domicile.pseudonym_with(value,
-- inner_pad, outer_pad)` is what stands in the views: domicile.wrap_mask hands it the key through scalar subqueries on
-- domicile.mask_key, which the views' owner reads and the foreign role, whose EXECUTE is checked, does not.

-- Keys ---------------------------------------------------------------------------------------------------------------

create function domicile.hmac_pad(key bytea, fill int) returns bytea
language sql immutable strict parallel safe
return (
    select string_agg(
               set_byte('\x00'::bytea, 0, case when n < octet_length(k.key) then get_byte(k.key, n) else 0 end # fill),
               '\x'::bytea order by n)
    from (select case when octet_length(hmac_pad.key) > 64 then sha256(hmac_pad.key) else hmac_pad.key end) as k(key),
         generate_series(0, 63) as n
);
comment on function domicile.hmac_pad(bytea, int) is
'The 64-byte block of HMAC-SHA-256 (RFC 2104) made of the key and one byte: 54 (0x36) gives the inner pad, 92 (0x5c) the outer one. Computed once for each key, not once for each row.';

create function domicile.hmac_sha256(key bytea, data bytea) returns bytea
language sql immutable strict parallel safe
return sha256(domicile.hmac_pad(key, 92) || sha256(domicile.hmac_pad(key, 54) || data));
comment on function domicile.hmac_sha256(bytea, bytea) is
'HMAC-SHA-256 of data under key, 32 bytes. For tests and single values; masks use the pads of domicile.mask_key, which cost two sha256 calls a row.';

create function domicile.text_bytes(value text) returns bytea
language sql immutable parallel safe
return replace(value, '\', '\\')::bytea;
comment on function domicile.text_bytes(text) is
'The bytes of a text in the database''s encoding. Immutable, which convert_to() is not; the doubled backslash keeps the bytea input from reading escapes.';

create function domicile.new_mask_key() returns bytea
language sql volatile parallel safe
return sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()));
comment on function domicile.new_mask_key() is
'32 bytes from the server''s strong random source (three random UUIDs hold 366 random bits).';

create table domicile.mask_key (
    domain text primary key check (domain <> '' and octet_length(domain) <= 255),
    key bytea not null default domicile.new_mask_key() check (octet_length(key) >= 32),
    inner_pad bytea not null generated always as (domicile.hmac_pad(key, 54)) stored,
    outer_pad bytea not null generated always as (domicile.hmac_pad(key, 92)) stored,
    created_at timestamptz not null default now()
);
comment on table domicile.mask_key is
'One secret key for each domain of keyed masks. Read by the views'' owner alone, never leaves this region. Deleting a key withholds (NULL) everything masked with it; changing it changes every pseudonym of its domain.';
revoke all on domicile.mask_key from public;
grant select on domicile.mask_key to domicile_views;

-- The heart of every keyed mask. Each parameter is used once, so that PostgreSQL inlines it (a parameter that holds a
-- subquery and is used twice would be a function call for each row).
create function domicile.keyed_hash(data bytea, inner_pad bytea, outer_pad bytea) returns bytea
language sql immutable parallel safe
return sha256(outer_pad || sha256(inner_pad || data));
comment on function domicile.keyed_hash(bytea, bytea, bytea) is
'HMAC-SHA-256 of data by the two pads of a key (columns inner_pad and outer_pad of domicile.mask_key).';

-- pseudonym ----------------------------------------------------------------------------------------------------------

create function domicile.pseudonym_with(value text, inner_pad bytea, outer_pad bytea) returns text
language sql immutable parallel safe
return encode(substr(domicile.keyed_hash(domicile.text_bytes(value), inner_pad, outer_pad), 1, 16), 'hex');

create function domicile.pseudonym_with(value bytea, inner_pad bytea, outer_pad bytea) returns bytea
language sql immutable parallel safe
return domicile.keyed_hash(value, inner_pad, outer_pad);

create function domicile.pseudonym_with(value uuid, inner_pad bytea, outer_pad bytea) returns uuid
language sql immutable parallel safe
return overlay(overlay(
    encode(substr(domicile.keyed_hash(uuid_send(value), inner_pad, outer_pad), 1, 16), 'hex')
    placing '8' from 13 for 1) placing '8' from 17 for 1)::uuid;

create function domicile.pseudonym_with(value bigint, inner_pad bytea, outer_pad bytea) returns bigint
language sql immutable parallel safe
return ('x' || encode(substr(domicile.keyed_hash(int8send(value), inner_pad, outer_pad), 1, 8), 'hex'))::bit(64)::bigint
       & 9223372036854775807;

create function domicile.pseudonym_with(value int, inner_pad bytea, outer_pad bytea) returns int
language sql immutable parallel safe
return ('x' || encode(substr(domicile.keyed_hash(int4send(value), inner_pad, outer_pad), 1, 4), 'hex'))::bit(32)::int
       & 2147483647;

-- What a policy says. Called directly they read the key as the caller: a DBA may try them, nobody else can.
create function domicile.pseudonym(value text, domain text default null) returns text
language sql stable parallel safe
return (select domicile.pseudonym_with(pseudonym.value, k.inner_pad, k.outer_pad)
        from domicile.mask_key k where k.domain = pseudonym.domain);

create function domicile.pseudonym(value bytea, domain text default null) returns bytea
language sql stable parallel safe
return (select domicile.pseudonym_with(pseudonym.value, k.inner_pad, k.outer_pad)
        from domicile.mask_key k where k.domain = pseudonym.domain);

create function domicile.pseudonym(value uuid, domain text default null) returns uuid
language sql stable parallel safe
return (select domicile.pseudonym_with(pseudonym.value, k.inner_pad, k.outer_pad)
        from domicile.mask_key k where k.domain = pseudonym.domain);

create function domicile.pseudonym(value bigint, domain text default null) returns bigint
language sql stable parallel safe
return (select domicile.pseudonym_with(pseudonym.value, k.inner_pad, k.outer_pad)
        from domicile.mask_key k where k.domain = pseudonym.domain);

create function domicile.pseudonym(value int, domain text default null) returns int
language sql stable parallel safe
return (select domicile.pseudonym_with(pseudonym.value, k.inner_pad, k.outer_pad)
        from domicile.mask_key k where k.domain = pseudonym.domain);

comment on function domicile.pseudonym(text, text) is
'MASK. The first 128 bits of HMAC-SHA-256 of the value, 32 hexadecimal digits. Class: preserved, so it may stand on UNIQUE and FOREIGN KEY columns. Reveals which values are equal, and how often each occurs; not the value, its length or its order. Key: by default one for each column (a foreign key column uses that of the column it refers to); domain => ''person'' shares a key between columns, which makes them joinable and linkable. NULL stays NULL. A varchar(n) or char(n) column needs n >= 32. Called directly it needs the domain, and the right to read domicile.mask_key.';
comment on function domicile.pseudonym(bytea, text) is
'MASK. HMAC-SHA-256 of the value, 32 bytes. Class: preserved. Otherwise as domicile.pseudonym(text).';
comment on function domicile.pseudonym(uuid, text) is
'MASK. 120 bits of HMAC-SHA-256 of the value as a UUID of version 8. Class: preserved. Otherwise as domicile.pseudonym(text).';
comment on function domicile.pseudonym(bigint, text) is
'MASK. 63 bits of HMAC-SHA-256 of the value, never negative. Class: collision-possible (one chance in two at three billion values), so it is refused on UNIQUE and FOREIGN KEY columns. Otherwise as domicile.pseudonym(text).';
comment on function domicile.pseudonym(int, text) is
'MASK. 31 bits of HMAC-SHA-256 of the value, never negative. Class: collision-possible (one chance in two at 55,000 values), so it is refused on UNIQUE and FOREIGN KEY columns. Otherwise as domicile.pseudonym(text).';
comment on function domicile.pseudonym_with(text, bytea, bytea) is
'What domicile.pseudonym(text) becomes in a view: the pads of the key come as arguments. NULL where value or key is NULL.';
comment on function domicile.pseudonym_with(bytea, bytea, bytea) is
'What domicile.pseudonym(bytea) becomes in a view. NULL where value or key is NULL.';
comment on function domicile.pseudonym_with(uuid, bytea, bytea) is
'What domicile.pseudonym(uuid) becomes in a view. NULL where value or key is NULL.';
comment on function domicile.pseudonym_with(bigint, bytea, bytea) is
'What domicile.pseudonym(bigint) becomes in a view. NULL where value or key is NULL.';
comment on function domicile.pseudonym_with(int, bytea, bytea) is
'What domicile.pseudonym(int) becomes in a view. NULL where value or key is NULL.';

-- partial ------------------------------------------------------------------------------------------------------------

create function domicile.partial(value text, keep_start int, keep_end int default 0, pad text default '***') returns text
language sql immutable parallel safe
return case
    when value is null then null
    when keep_start is null or keep_end is null
      or char_length(value) <= greatest(keep_start, 0)::bigint + greatest(keep_end, 0) then coalesce(pad, '***')
    else left(value, greatest(keep_start, 0)) || coalesce(pad, '***') || right(value, greatest(keep_end, 0))
end;
comment on function domicile.partial(text, int, int, text) is
'MASK. The first keep_start and the last keep_end characters (code points) with pad between them; pad alone where the value is no longer than what would be kept, so a value is never shown whole. Class: lossy. Reveals the kept characters; with the default pad not the length. NULL stays NULL, '''' becomes the pad.';

create function domicile.partial_email(value text) returns text
language sql immutable parallel safe
return case
    when value is null then null
    when value not like '%_@_%' then '***'
    else
        case when strpos(value, '@') > 2 then left(value, 1) else '' end || '***@'
        || case when strpos(split_part(value, '@', -1), '.') > 2 then left(split_part(value, '@', -1), 1) else '' end || '***'
        || case when strpos(split_part(value, '@', -1), '.') > 0 then '.' || split_part(value, '.', -1) else '' end
end;
comment on function domicile.partial_email(text) is
'MASK. d***@g***.com for daniel@gmail.com: the first character of the local part and of the domain (each only where more follow), and the top-level domain. *** where the value is no e-mail address. Class: lossy. NULL stays NULL.';

-- generalize ---------------------------------------------------------------------------------------------------------

create function domicile.generalize(value int, step int) returns int
language sql immutable parallel safe
return case when step > 1
      and value::bigint - mod(mod(value::bigint, step::bigint) + step, step::bigint) >= -2147483648
    then (value::bigint - mod(mod(value::bigint, step::bigint) + step, step::bigint))::int end;

create function domicile.generalize(value bigint, step bigint) returns bigint
language sql immutable parallel safe
return case when step > 1
      and value::numeric - mod(mod(value::numeric, step::numeric) + step, step::numeric) >= -9223372036854775808
    then (value::numeric - mod(mod(value::numeric, step::numeric) + step, step::numeric))::bigint end;

create function domicile.generalize(value smallint, step int) returns smallint
language sql immutable parallel safe
return case when step > 1
      and value::bigint - mod(mod(value::bigint, step::bigint) + step, step::bigint) >= -32768
    then (value::bigint - mod(mod(value::bigint, step::bigint) + step, step::bigint))::smallint end;

create function domicile.generalize(value numeric, step numeric) returns numeric
language sql immutable parallel safe
return case
    when not step > 0 or step in ('Infinity', 'NaN') then null
    when value in ('Infinity', '-Infinity', 'NaN') then value
    else value - mod(mod(value, step) + step, step)
end;

create function domicile.generalize(value double precision, step double precision) returns double precision
language sql immutable parallel safe
return case when step > 0 and step < 'Infinity' then floor(value / step) * step end;

-- An address keeps its own, shorter prefix. The bits after the prefix become zero.
create function domicile.generalize(value inet, prefix int) returns inet
language sql immutable parallel safe
return case when prefix between 0 and case family(value) when 4 then 31 else 127 end
    then network(set_masklen(value, least(prefix, masklen(value))))::inet end;

-- Years before 4000 BC and after 200000 are withheld: PostgreSQL's own arithmetic ends not far behind them.
create function domicile.generalize(value timestamp, unit text) returns timestamp
language sql immutable parallel safe
return case
    when not isfinite(value) then value
    when unit in ('hour', 'day', 'week', 'month', 'quarter', 'year', 'decade', 'century')
     and value >= '4000-01-01 BC'::timestamp and value < '200000-01-01'::timestamp then date_trunc(unit, value)
end;

create function domicile.generalize(value date, unit text) returns date
language sql immutable parallel safe
return case
    when not isfinite(value) then value
    when unit in ('week', 'month', 'quarter', 'year', 'decade', 'century')
     and value >= '4000-01-01 BC'::date and value < '200000-01-01'::date then date_trunc(unit, value::timestamp)::date
end;

create function domicile.generalize(value timestamptz, unit text) returns timestamptz
language sql immutable parallel safe
return case
    when not isfinite(value) then value
    when unit in ('hour', 'day', 'week', 'month', 'quarter', 'year', 'decade', 'century')
     and value >= '4000-01-01 00:00 UTC BC'::timestamptz and value < '200000-01-01 00:00 UTC'::timestamptz
    then timezone('UTC', date_trunc(unit, timezone('UTC', value)))
end;

create function domicile.unit_length(unit text) returns interval
language sql immutable parallel safe
return case unit when 'hour' then '1 hour'::interval when 'day' then '1 day' when 'week' then '7 days'
    when 'month' then '1 month' when 'quarter' then '3 months' when 'year' then '1 year' when 'decade' then '10 years'
    when 'century' then '100 years' end;
comment on function domicile.unit_length(text) is
'The length of a unit of domicile.generalize; NULL for any other word.';

create function domicile.generalize(value int4range, step int) returns int4range
language sql immutable parallel safe
return case when isempty(value) then value when step > 1 then
    int4range(domicile.generalize(lower(value), step),
              case when -domicile.generalize(-upper(value)::bigint, step) <= 2147483647
                   then (-domicile.generalize(-upper(value)::bigint, step))::int end) end;

create function domicile.generalize(value int8range, step bigint) returns int8range
language sql immutable parallel safe
return case when isempty(value) then value when step > 1 then
    int8range(domicile.generalize(lower(value), step),
              case when -domicile.generalize(-upper(value)::numeric, step::numeric) <= 9223372036854775807
                   then (-domicile.generalize(-upper(value)::numeric, step::numeric))::bigint end) end;

create function domicile.generalize(value numrange, step numeric) returns numrange
language sql immutable parallel safe
return case when isempty(value) then value when step > 0 and step not in ('Infinity', 'NaN') then
    numrange(domicile.generalize(lower(value), step),
             case when upper_inc(value) then domicile.generalize(upper(value), step) + step
                  else -domicile.generalize(-upper(value), step) end) end;

create function domicile.generalize(value tsrange, unit text) returns tsrange
language sql immutable parallel safe
return case when isempty(value) then value when domicile.unit_length(unit) is not null then
    tsrange(domicile.generalize(lower(value), unit),
            case when upper(value) = domicile.generalize(upper(value), unit) and not upper_inc(value) then upper(value)
                 else domicile.generalize(upper(value), unit) + domicile.unit_length(unit) end) end;

create function domicile.generalize(value tstzrange, unit text) returns tstzrange
language sql immutable parallel safe
return case when isempty(value) then value when domicile.unit_length(unit) is not null then
    tstzrange(domicile.generalize(lower(value), unit),
              case when upper(value) = domicile.generalize(upper(value), unit) and not upper_inc(value) then upper(value)
                   else timezone('UTC', timezone('UTC', domicile.generalize(upper(value), unit))
                                        + domicile.unit_length(unit)) end) end;

create function domicile.generalize(value daterange, unit text) returns daterange
language sql immutable parallel safe
return case when isempty(value) then value when unit not in ('hour', 'day') and domicile.unit_length(unit) is not null then
    daterange(domicile.generalize(lower(value), unit),
              case when upper(value) = domicile.generalize(upper(value), unit) then upper(value)
                   else (domicile.generalize(upper(value), unit) + domicile.unit_length(unit))::date end) end;

comment on function domicile.generalize(int, int) is
'MASK. The value rounded down to a multiple of step (-7 by 5 is -10), same type. Class: lossy. Reveals the interval that the value lies in. NULL where step is not more than 1 or the result leaves the type; NULL stays NULL.';
comment on function domicile.generalize(bigint, bigint) is 'MASK. As domicile.generalize(int, int).';
comment on function domicile.generalize(smallint, int) is 'MASK. As domicile.generalize(int, int).';
comment on function domicile.generalize(numeric, numeric) is
'MASK. The value rounded down to a multiple of step, exact, same type. Class: lossy. NULL where step is not above 0; NaN and the infinities stay. A step below the column''s own precision hides nothing: choose it well.';
comment on function domicile.generalize(double precision, double precision) is
'MASK. As domicile.generalize(numeric, numeric), as exact as the type is.';
comment on function domicile.generalize(inet, int) is
'MASK. The network of the first prefix bits that the address lies in. Class: lossy. NULL where prefix would keep the whole address.';
comment on function domicile.generalize(date, text) is
'MASK. The first day of the value''s week, month, quarter, year, decade or century, as a date. Class: lossy. NULL for any other unit and for years before 4000 BC or after 200000; the infinities stay.';
comment on function domicile.generalize(timestamp, text) is
'MASK. The start of the value''s hour, day, week, month, quarter, year, decade or century, same type. Class: lossy. Limits as for date.';
comment on function domicile.generalize(timestamptz, text) is
'MASK. As domicile.generalize(timestamp, text), counted at UTC, so that no session''s time zone changes it.';
comment on function domicile.generalize(int4range, int) is
'MASK. The range widened to multiples of step on both sides. Class: lossy. Unbounded sides stay, a bound that leaves the type becomes unbounded, an empty range stays empty. NULL where step is not more than 1.';
comment on function domicile.generalize(int8range, bigint) is 'MASK. As domicile.generalize(int4range, int).';
comment on function domicile.generalize(numrange, numeric) is
'MASK. The range widened to multiples of step on both sides, lower bound inclusive, upper exclusive. Class: lossy.';
comment on function domicile.generalize(daterange, text) is
'MASK. The range widened to whole weeks, months, quarters, years, decades or centuries. Class: lossy.';
comment on function domicile.generalize(tsrange, text) is
'MASK. The range widened to whole hours, days, weeks, months, quarters, years, decades or centuries. Class: lossy.';
comment on function domicile.generalize(tstzrange, text) is 'MASK. As domicile.generalize(tsrange, text), at UTC.';

-- noise --------------------------------------------------------------------------------------------------------------

create function domicile.noise_fraction(row_identity text, inner_pad bytea, outer_pad bytea) returns numeric
language sql immutable parallel safe
return ('x' || left(encode(domicile.keyed_hash(domicile.text_bytes('noise of row ' || row_identity), inner_pad, outer_pad),
                           'hex'), 13))::bit(52)::bigint / 2251799813685248::numeric - 1;
comment on function domicile.noise_fraction(text, bytea, bytea) is
'A number in [-1, 1), uniform over rows, fixed for each key and row.';

create function domicile.noise_with(value numeric, spread numeric, row_identity text, inner_pad bytea, outer_pad bytea)
returns numeric
language sql immutable parallel safe
return round(value + nullif(greatest(spread, 0), 0) * domicile.noise_fraction(row_identity, inner_pad, outer_pad), scale(value));

-- The range of the type is kept by looking at value and spread: looking at the sum would need it twice, see above.
create function domicile.noise_with(value bigint, spread bigint, row_identity text, inner_pad bytea, outer_pad bytea)
returns bigint
language sql immutable parallel safe
return case when spread > 0 and value::numeric + spread <= 9223372036854775807 and value::numeric - spread >= -9223372036854775808
    then (value + round(spread * domicile.noise_fraction(row_identity, inner_pad, outer_pad)))::bigint end;

create function domicile.noise_with(value int, spread int, row_identity text, inner_pad bytea, outer_pad bytea)
returns int
language sql immutable parallel safe
return case when spread > 0 and value::bigint + spread <= 2147483647 and value::bigint - spread >= -2147483648
    then (value + round(spread * domicile.noise_fraction(row_identity, inner_pad, outer_pad)))::int end;

create function domicile.noise_with(
    value double precision, spread double precision, row_identity text, inner_pad bytea, outer_pad bytea)
returns double precision
language sql immutable parallel safe
return value + nullif(greatest(spread, 0), 0) * domicile.noise_fraction(row_identity, inner_pad, outer_pad)::double precision;

create function domicile.noise_with(value date, spread int, row_identity text, inner_pad bytea, outer_pad bytea)
returns date
language sql immutable parallel safe
return value + round(nullif(greatest(spread, 0), 0) * domicile.noise_fraction(row_identity, inner_pad, outer_pad))::int;

create function domicile.noise_with(value timestamp, spread interval, row_identity text, inner_pad bytea, outer_pad bytea)
returns timestamp
language sql immutable parallel safe
return value + nullif(greatest(spread, '0'::interval), '0'::interval)
             * domicile.noise_fraction(row_identity, inner_pad, outer_pad)::double precision;

create function domicile.noise_with(value timestamptz, spread interval, row_identity text, inner_pad bytea, outer_pad bytea)
returns timestamptz
language sql immutable parallel safe
return timezone('UTC', timezone('UTC', value) + nullif(greatest(spread, '0'::interval), '0'::interval)
             * domicile.noise_fraction(row_identity, inner_pad, outer_pad)::double precision);

-- What a policy says. Only a policy knows the row, so called directly these answer NULL.
create function domicile.noise(value numeric, spread numeric) returns numeric
language sql immutable parallel safe return null::numeric;
create function domicile.noise(value bigint, spread bigint) returns bigint
language sql immutable parallel safe return null::bigint;
create function domicile.noise(value int, spread int) returns int
language sql immutable parallel safe return null::int;
create function domicile.noise(value double precision, spread double precision) returns double precision
language sql immutable parallel safe return null::double precision;
create function domicile.noise(value date, spread int) returns date
language sql immutable parallel safe return null::date;
create function domicile.noise(value timestamp, spread interval) returns timestamp
language sql immutable parallel safe return null::timestamp;
create function domicile.noise(value timestamptz, spread interval) returns timestamptz
language sql immutable parallel safe return null::timestamptz;

comment on function domicile.noise(numeric, numeric) is
'MASK. The value moved by up to spread either way, rounded to the value''s own number of decimals. Class: lossy. The movement is a fixed function of the key and the row''s primary key: reading again, or averaging what was read, takes none of it away; sums over many rows stay near. It stays the same when the value of the row changes, so differences between two values of one row over time are shown exactly. Needs a primary key. Only inside a policy''s MASK, where the row is known; called directly it gives NULL. NULL stays NULL; NULL where spread is not above 0.';
comment on function domicile.noise(bigint, bigint) is 'MASK. As domicile.noise(numeric, numeric); NULL where the value is within spread of the type''s end.';
comment on function domicile.noise(int, int) is 'MASK. As domicile.noise(numeric, numeric); NULL where the value is within spread of the type''s end.';
comment on function domicile.noise(double precision, double precision) is 'MASK. As domicile.noise(numeric, numeric), not rounded.';
comment on function domicile.noise(date, int) is 'MASK. The date moved by up to spread days either way. As domicile.noise(numeric, numeric).';
comment on function domicile.noise(timestamp, interval) is 'MASK. The time moved by up to spread either way. As domicile.noise(numeric, numeric).';
comment on function domicile.noise(timestamptz, interval) is 'MASK. The time moved by up to spread either way, counted at UTC. As domicile.noise(numeric, numeric).';
comment on function domicile.noise_with(numeric, numeric, text, bytea, bytea) is 'What domicile.noise(numeric, numeric) becomes in a view.';
comment on function domicile.noise_with(bigint, bigint, text, bytea, bytea) is 'What domicile.noise(bigint, bigint) becomes in a view.';
comment on function domicile.noise_with(int, int, text, bytea, bytea) is 'What domicile.noise(int, int) becomes in a view.';
comment on function domicile.noise_with(double precision, double precision, text, bytea, bytea) is 'What domicile.noise(double precision, double precision) becomes in a view.';
comment on function domicile.noise_with(date, int, text, bytea, bytea) is 'What domicile.noise(date, int) becomes in a view.';
comment on function domicile.noise_with(timestamp, interval, text, bytea, bytea) is 'What domicile.noise(timestamp, interval) becomes in a view.';
comment on function domicile.noise_with(timestamptz, interval, text, bytea, bytea) is 'What domicile.noise(timestamptz, interval) becomes in a view.';

-- fake ---------------------------------------------------------------------------------------------------------------

-- Given and family names stand in groups of one script, eight of each, so that a name is never of two scripts.
create function domicile.fake_pick(hash bytea, kind text) returns text
language plpgsql immutable strict parallel safe
set search_path = pg_catalog
as $$
declare
    given constant text[] := array[
        'Anna', 'Clara', 'Emil', 'Felix', 'Hanna', 'Jonas', 'Lena', 'Paul',
        'Amélie', 'Chloé', 'Étienne', 'Inès', 'José', 'Renée', 'Sofía', 'Zoë',
        'Алексей', 'Анна', 'Дмитрий', 'Елена', 'Иван', 'Мария', 'Ольга', 'Сергей',
        'Αλέξης', 'Ειρήνη', 'Ελένη', 'Κώστας', 'Μαρία', 'Νίκος', 'Σοφία', 'Γιώργος',
        '伟', '芳', '娜', '敏', '静', '丽', '强', '磊',
        'さくら', '陽菜', '翔太', '大輔', '美咲', '健太', '優子', '直樹',
        '민준', '서연', '지우', '하준', '서윤', '도윤', '예은', '지호',
        'أحمد', 'ليلى', 'محمد', 'مريم', 'عمر', 'نور', 'خالد', 'سلمى'];
    family constant text[] := array[
        'Becker', 'Fischer', 'Keller', 'Lang', 'Meyer', 'Schmid', 'Vogel', 'Winter',
        'Dubois', 'García', 'Lefèvre', 'Muñoz', 'Núñez', 'Rivière', 'Sánchez', 'Château',
        'Волков', 'Иваненко', 'Козлов', 'Лебедев', 'Мороз', 'Орлов', 'Соколов', 'Шевченко',
        'Γεωργίου', 'Δημητρίου', 'Ιωάννου', 'Κωνσταντίνου', 'Νικολάου', 'Παπαδάκης', 'Χριστοδούλου', 'Αντωνίου',
        '王', '李', '张', '刘', '陈', '杨', '黄', '赵',
        '佐藤', '鈴木', '高橋', '田中', '伊藤', '渡辺', '山本', '中村',
        '김', '이', '박', '최', '정', '강', '조', '윤',
        'حداد', 'منصور', 'خوري', 'صالح', 'نجار', 'عباس', 'فارس', 'زيدان'];
    city constant text[] := array[
        'Amberfurt', 'Birkenau am See', 'Castelmare', 'Dunhaven', 'Eikstad', 'Fjordby', 'Grünfelden', 'Haute-Rive',
        'Ilhabela Nova', 'Jasenice', 'Kvarnholm', 'Łąkowo', 'Monteverde', 'Nový Brod', 'Ørebæk', 'Puerto Claro',
        'Озёрск-Новый', 'Білопілля', 'Νεάπολις', 'Qaradağ', '青湖市', '南風町', '새벽시', 'واحة النور'];
    script int := get_byte(hash, 0) % 8;
    first int := script * 8 + get_byte(hash, 1) % 8 + 1;
    last int := script * 8 + get_byte(hash, 2) % 8 + 1;
begin
    return case kind
        when 'name' then case
            when script in (4, 6) then family[last] || given[first]
            when script = 5 then family[last] || ' ' || given[first]
            else given[first] || ' ' || family[last] end
        when 'email' then 'user.' || encode(substr(hash, 4, 4), 'hex') || '@example.com'
        when 'city' then city[((get_byte(hash, 8) << 8) + get_byte(hash, 9)) % array_length(city, 1) + 1]
    end;
end
$$;
comment on function domicile.fake_pick(bytea, text) is
'A name, email or city chosen by a hash of at least 10 bytes; NULL for any other kind. 512 names in 8 scripts, 24 invented cities, e-mail addresses of example.com with 32 bits.';

create function domicile.fake_with(value text, kind text, inner_pad bytea, outer_pad bytea) returns text
language sql immutable parallel safe
return domicile.fake_pick(domicile.keyed_hash(domicile.text_bytes('fake ' || value), inner_pad, outer_pad), kind);
comment on function domicile.fake_with(text, text, bytea, bytea) is
'What domicile.fake(text, text) becomes in a view. NULL where value, kind or key is NULL.';

create function domicile.fake(value text, kind text, domain text default null) returns text
language sql stable parallel safe
return (select domicile.fake_with(fake.value, fake.kind, k.inner_pad, k.outer_pad)
        from domicile.mask_key k where k.domain = fake.domain);
comment on function domicile.fake(text, text, text) is
'MASK. An invented ''name'', ''email'' or ''city'', chosen by HMAC-SHA-256 of the value: equal values get equal fakes, different values may (512 names, 24 cities, 32 bits of e-mail). Class: lossy. Reveals which values may be equal. Domain as for domicile.pseudonym(text). NULL stays NULL, NULL for any other kind.';

-- redact, withheld -----------------------------------------------------------------------------------------------------

create function domicile.redact(value text) returns text
language sql immutable parallel safe return '[redacted]';
create function domicile.redact(value anyelement) returns anyelement
language sql immutable parallel safe as 'select case when false then value end';
comment on function domicile.redact(text) is
'MASK. ''[redacted]'' for every value, NULL included, so that not even absence shows; cut to the length of a shorter column. Class: lossy. Reveals nothing.';
comment on function domicile.redact(anyelement) is
'MASK. NULL of the value''s type. Class: lossy. Reveals nothing.';

create function domicile.withheld(value anyelement) returns anyelement
language sql immutable parallel safe as 'select case when false then value end';
comment on function domicile.withheld(anyelement) is
'MASK. NULL of the value''s type: what a column shows that no policy names. Class: lossy. Reveals nothing.';

-- 21_mask_check.sql ------------------------------------------------------------------------------------------

-- The checker of mask and ROWS expressions, and what makes a checked expression ready for a view.
--
-- How an expression is read. Its text is never trusted: PostgreSQL itself analyses it, as the one column of a view that
-- lives inside a subtransaction which is always rolled back. Nothing of it is planned or executed on the way (planning
-- would already run "immutable" functions over constants). The analysed tree, pg_rewrite.ev_action, is then walked node
-- by node against allow-lists: an unknown node kind, function, or cast is refused. pg_depend would not do, for it
-- records nothing about pg_catalog.
--
-- What is refused and why:
--   * anything but immutable functions of the list domicile.mask_functions: settings, clocks, files, other tables, and
--     functions that an application's role could replace;
--   * text forms that follow a setting (date::text follows DateStyle, which a foreign role may set);
--   * regular expressions: their run time over a value has no bound that can be known here;
--   * an expression through which the column's own value flows to the result without passing a function that hides.
-- An expression that may raise, as text::int does, would put values into error messages; domicile.wrap_mask puts it
-- behind a function that answers NULL instead.
--
-- Errors say what was written and where. They hold nothing of any row, for no row is ever read here.

-- What an expression may call ----------------------------------------------------------------------------------------

create view domicile.mask_functions as
with listed(name, hides, raises) as (values
    -- text
    ('lower', false, false), ('upper', false, false), ('initcap', false, false), ('btrim', false, false),
    ('ltrim', false, false), ('rtrim', false, false), ('reverse', false, false), ('replace', false, false),
    ('translate', false, false), ('textcat', false, false), ('text', false, false), ('varchar', false, false), ('name', false, false),
    ('bpchar', false, true), ('normalize', false, true), ('lpad', false, true), ('rpad', false, true),
    ('repeat', false, true), ('overlay', true, true), ('left', true, false), ('right', true, false),
    ('substr', true, true), ('substring', true, true), ('split_part', true, true), ('strpos', true, false),
    ('position', true, false), ('char_length', true, false), ('character_length', true, false),
    ('length', true, false), ('octet_length', true, false), ('bit_length', true, false), ('starts_with', true, false),
    ('ascii', true, true), ('chr', false, true), ('byteacat', false, true), ('encode', false, true),
    -- numbers
    ('int2', false, true), ('int4', false, true), ('int8', false, true), ('numeric', false, true),
    ('float8', false, true), ('float4', false, true), ('bool', false, true), ('abs', false, true), ('sign', true, true),
    ('ceil', false, true), ('ceiling', false, true), ('floor', false, true), ('round', false, true), ('trunc', false, true),
    ('mod', true, true), ('div', true, true),
    ('int2pl', false, true), ('int2mi', false, true), ('int2mul', false, true), ('int2div', true, true),
    ('int2um', false, true), ('int2mod', true, true),
    ('int4pl', false, true), ('int4mi', false, true), ('int4mul', false, true), ('int4div', true, true),
    ('int4um', false, true), ('int4mod', true, true),
    ('int8pl', false, true), ('int8mi', false, true), ('int8mul', false, true), ('int8div', true, true),
    ('int8um', false, true), ('int8mod', true, true),
    ('int24pl', false, true), ('int42pl', false, true), ('int48pl', false, true), ('int84pl', false, true),
    ('int24mi', false, true), ('int42mi', false, true), ('int48mi', false, true), ('int84mi', false, true),
    ('int24mul', false, true), ('int42mul', false, true), ('int48mul', false, true), ('int84mul', false, true),
    ('int24div', true, true), ('int42div', true, true), ('int48div', true, true), ('int84div', true, true),
    ('numeric_add', false, true), ('numeric_sub', false, true), ('numeric_mul', false, true),
    ('numeric_div', false, true), ('numeric_mod', true, true), ('numeric_uminus', false, true),
    ('float8pl', false, true), ('float8mi', false, true), ('float8mul', false, true), ('float8div', false, true),
    ('float8um', false, true),
    -- dates and times
    ('date', false, true), ('timestamp', false, true), ('timestamptz', false, true), ('time', false, true),
    ('interval', false, true), ('date_trunc', true, true), ('date_part', true, true), ('extract', true, true),
    ('make_date', false, true), ('date_mi', false, true), ('date_pli', false, true), ('date_mii', false, true),
    ('date_pl_interval', false, true), ('date_mi_interval', false, true), ('timestamp_pl_interval', false, true),
    ('timestamp_mi_interval', false, true), ('timestamp_mi', false, true), ('timestamptz_mi', false, true),
    ('timezone', false, true), ('isfinite', true, false),
    -- jsonb, arrays, network addresses, bits
    ('jsonb_object_field', true, false), ('jsonb_object_field_text', true, false), ('jsonb_array_element', true, false),
    ('jsonb_array_element_text', true, false), ('jsonb_extract_path', true, false),
    ('jsonb_extract_path_text', true, false), ('jsonb_delete', true, true), ('jsonb_delete_path', true, true),
    ('jsonb_set', true, true), ('jsonb_concat', false, true), ('jsonb_typeof', true, false),
    ('jsonb_array_length', true, true), ('jsonb_strip_nulls', false, false), ('array_length', true, false),
    ('cardinality', true, false), ('family', true, false), ('masklen', true, false), ('set_masklen', false, true),
    ('network', false, false), ('inet', false, true), ('cidr', false, true), ('host', false, false),
    ('bit', false, true), ('varbit', false, true)
),
-- Types whose functions are known here; no geometry, no text search, no system types.
known(type) as (
    select unnest(array['bool', 'int2', 'int4', 'int8', 'numeric', 'float4', 'float8', 'text', 'varchar', 'bpchar', 'name',
        '"char"', 'uuid', 'date', 'time', 'timetz', 'timestamp', 'timestamptz', 'interval', 'bytea', 'jsonb', 'inet', 'cidr',
        'macaddr', 'macaddr8', 'bit', 'varbit', 'oid', 'anyenum', '_text']::regtype[]::oid[])
),
-- Comparisons tell one bit; LIKE raises on a pattern that ends in its escape character.
comparison(function, raises) as (
    select o.oprcode::oid, bool_or(o.oprname ~ '~~')
    from pg_catalog.pg_operator o
    where o.oid < 16384 and o.oprresult = 'bool'::regtype
      and o.oprname in ('=', '<>', '<', '<=', '>', '>=', '~~', '!~~', '~~*', '!~~*', '&&', '@>', '<@', '?', '?|', '?&',
                        '<<', '>>', '<<=', '>>=')
      and o.oprleft in (select type from known) and o.oprright in (select type from known)
    group by 1
),
chosen(function, hides, raises, keyed) as (
    select p.oid, l.hides, l.raises, false
    from pg_catalog.pg_proc p join listed l on l.name = p.proname
    where p.oid < 16384 and p.pronamespace = 'pg_catalog'::regnamespace
      -- substring(text, text) and its like are regular expressions.
      and not (p.proname = 'substring' and p.proargtypes[1] = 'text'::regtype)
      and (p.proname in ('array_length', 'cardinality')
           or not exists (select from unnest(p.proargtypes) a where a not in (select type from known)))
    union all
    select c.function, true, c.raises, false from comparison c
    union all
    select p.oid, true,
           p.proargtypes[0] = 'float8'::regtype
           or p.proname = 'noise' and p.proargtypes[0] not in ('numeric'::regtype, 'int8'::regtype, 'int4'::regtype),
           p.proname in ('pseudonym', 'noise', 'fake')
    from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace and n.nspname = 'domicile'
    where p.proowner = n.nspowner
      and p.proname in ('pseudonym', 'partial', 'partial_email', 'generalize', 'noise', 'fake', 'redact', 'withheld')
)
select format('%I.%I(%s)', n.nspname, p.proname, pg_catalog.pg_get_function_identity_arguments(p.oid)) as signature,
       c.hides, c.raises, c.keyed, c.function
from chosen c
join pg_catalog.pg_proc p on p.oid = c.function
join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where p.prokind = 'f' and not p.proretset and (p.provolatile = 'i' or c.keyed);
comment on view domicile.mask_functions is
'Every function, and function behind an operator or cast, that a mask or ROWS expression may use. hides: it takes something away by its nature (how much, as with left(), its arguments say and the author of the policy answers for). raises: it may raise on some value, so that the expression is wrapped. keyed: domicile.wrap_mask supplies the key.';
revoke all on domicile.mask_functions from public;

create table domicile.mask_wrapper (
    name text primary key,
    relation regclass not null,
    column_name text,
    expression text not null,
    created_at timestamptz not null default now()
);
comment on table domicile.mask_wrapper is
'The functions domicile.mask_… that domicile.wrap_mask and wrap_rows made around expressions that may raise: for which table and column (NULL: ROWS), and the canonical expression. Dropped by domicile.drop_unused_mask_wrappers().';
revoke all on domicile.mask_wrapper from public;

-- Reading the analysed tree --------------------------------------------------------------------------------------------

create function domicile.node_tree(tree text) returns jsonb
language sql immutable strict
set search_path = pg_catalog, pg_temp
as $$
    -- A pg_node_tree as JSON: {NODE :field value …} is an object with its kind under "node", (…) an array, all else a
    -- string, <> null. Positions in the text and marks of use are left out, names of 15 become those of 18. Names that
    -- a user chose can't pass for structure: PostgreSQL escapes blanks and brackets in them with a backslash.
    with token as (
        select m[1] as t, n
        from regexp_matches(
            regexp_replace(tree,
                ' :(?:(?:location|stmt_location|stmt_len) -?\d+|selectedCols \(b[^)]*\)|has[A-Z][A-Za-z]+ (?:true|false))',
                '', 'g'),
            '(\{[A-Z]*|[}()]|\d+ \[[^\]]*\]|(?:\\.|[^\s(){}\\])+)', 'g') with ordinality as r(m, n)
    ), follows as (
        select t, n, lag(t) over (order by n) as before from token
    )
    select string_agg(
        case
            when t = '}' then '}'
            when t = ')' then ']'
            when t like ':%' then ',' || to_json(substr(t, 2)) || ':'
            else case when before is null or before = '(' or before like ':%' then '' else ',' end
                || case
                    when t like '{%' then '{"node":' || to_json(case t
                        when '{RTE' then 'RANGETBLENTRY' when '{CASE' then 'CASEEXPR' when '{WHEN' then 'CASEWHEN'
                        when '{COALESCE' then 'COALESCEEXPR' when '{MINMAX' then 'MINMAXEXPR' when '{ARRAY' then 'ARRAYEXPR'
                        when '{ROW' then 'ROWEXPR' when '{COLLATE' then 'COLLATEEXPR' else substr(t, 2) end)
                    when t = '(' then '['
                    when t = '<>' then 'null'
                    else to_json(t)::text end
        end, '' order by n)::jsonb
    from follows
$$;
comment on function domicile.node_tree(text) is
'A pg_node_tree (as text) as JSON; NULL for NULL. Raises where the text is not one.';

create function domicile.view_text(view regclass) returns text
language sql stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$ select pg_get_viewdef(view) $$;
comment on function domicile.view_text(regclass) is
'pg_get_viewdef with every name qualified that is not of pg_catalog.';

create function domicile.check_one_expression(expression text, statement text, subject text) returns void
language plpgsql
set search_path = pg_catalog, domicile, pg_temp
set standard_conforming_strings = on
as $$
declare
    once refcursor;
    state text;
    message text;
begin
    if expression is null or btrim(expression) = '' then
        raise exception '% is empty', subject using errcode = '42601', hint = 'Write one expression over the columns of the row.';
    end if;
    if octet_length(expression) > 8192 then
        raise exception '% is longer than 8192 bytes', subject using errcode = '54000', hint = 'A mask is one expression over one row.';
    end if;
    -- EXECUTE would run all of `1) from t; drop table t; --`. A cursor takes one statement and never a CREATE VIEW, so
    -- opening one always fails, and the command's name in the message (it is not translated) says that it was one.
    begin
        open once for execute statement;
    exception when others then
        get stacked diagnostics state = returned_sqlstate, message = message_text;
    end;
    if state is distinct from '42P11' or message not like '%CREATE VIEW%' then
        raise exception '% is not one SQL expression%', subject,
            case when state = '42601' then ': ' || message else '' end
            using errcode = '42601', hint = 'Write one expression over the columns of the row, without a semicolon.';
    end if;
end
$$;
comment on function domicile.check_one_expression(text, text, text) is
'Nothing where statement, a CREATE VIEW made around the expression, is one statement; raises 42601 where it is several or none.';

create function domicile.analysed(rel regclass, expression text, subject text, printed_end text default null,
    out node jsonb, out canonical text, out type oid, out "collation" oid, out range_index int, out printed text)
language plpgsql
set search_path = pg_catalog, domicile, pg_temp
set standard_conforming_strings = on
as $$
declare
    probe text := format('domicile.mask_probe_%s', pg_backend_pid());
    frame text := format('domicile.mask_frame_%s', pg_backend_pid());
    statement text := format(E'create view %s as select (%s\n) as domicile_mask from %s t, (select) frame', probe, expression, rel);
    nodes_max constant int := 400;  -- some sixty calls: more would take long to walk, and much more exhaust the stack
    state text; message text; hint text;
    probe_tree jsonb; frame_tree jsonb; probe_text text;
begin
    if printed_end is null then
        perform domicile.check_one_expression(expression, statement, subject);
    end if;
    begin
        -- Domicile's own event triggers need not look at these views. The rollback takes the setting back as well.
        if to_regprocedure('domicile.settle_token()') is not null then
            perform set_config('domicile.settling', domicile.settle_token(), true);
        end if;
        execute statement;
        if printed_end is null
           and (select length(ev_action::text) - length(replace(ev_action::text, '{', '')) from pg_rewrite where ev_class = probe::regclass) > nodes_max then
            raise exception 'it has more than % parts', nodes_max using errcode = '54001', hint = 'A mask is one expression over one row: make it simpler.';
        end if;
        select domicile.node_tree(replace(ev_action::text, ' :relid ' || ev_class || ' ', ' :relid 0 '))
          into probe_tree from pg_rewrite where ev_class = probe::regclass;
        probe_text := domicile.view_text(probe::regclass);
        select atttypid, attcollation into type, "collation" from pg_attribute where attrelid = probe::regclass and attnum = 1;
        printed := printed_end;
        if printed is null then
            execute format('create view %s as select null::text as domicile_mask from %s t, (select) frame', frame, rel);
            select domicile.node_tree(replace(ev_action::text, ' :relid ' || ev_class || ' ', ' :relid 0 '))
              into frame_tree from pg_rewrite where ev_class = frame::regclass;
            printed := domicile.view_text(frame::regclass);
            printed := substr(printed, strpos(printed, ' AS domicile_mask'));
        end if;
        raise exception using errcode = 'DM001', message = 'the views were needed for a moment only';
    exception
        when sqlstate 'DM001' then null;
        when others then
            get stacked diagnostics state = returned_sqlstate, message = message_text, hint = pg_exception_hint;
            raise exception '% is refused: %', subject, message
                using errcode = state, hint = coalesce(nullif(hint, ''), case when state like '42%' then
                    'An expression sees the columns of its own row (as column or t.column), the functions of pg_catalog and those of domicile, no other name.'
                    else 'PostgreSQL could not read the expression: correct it.' end);
    end;
    node := probe_tree #> '{0,targetList,0,expr}';
    select n::int into range_index from jsonb_array_elements(probe_tree #> '{0,rtable}') with ordinality as r(entry, n)
        where entry #>> '{alias,aliasname}' = 't' and (entry ->> 'relid')::oid = rel;
    if right(probe_text, length(printed)) = printed then
        canonical := substr(probe_text, 9, length(probe_text) - 8 - length(printed));
    end if;
    -- All around the expression must be as it was written above, else the text has broken out of its brackets.
    if jsonb_array_length(probe_tree #> '{0,targetList}') <> 1
       or printed_end is null and probe_tree #- '{0,targetList}' is distinct from frame_tree #- '{0,targetList}' then
        canonical := null;
    end if;
end
$$;
comment on function domicile.analysed(regclass, text, text, text) is
'The analysed tree of an expression over one row of rel, its canonical text (columns as t.column; NULL where the text was more than one expression), its type and collation, the range table index of the row, and what is printed after the expression. That last, given as printed_end, says that the expression is not a user''s text but made of one that was analysed before. Executes nothing and leaves nothing behind. Raises PostgreSQL''s own error, with subject before it.';

create function domicile.node_type(node jsonb) returns oid
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
    select case node ->> 'node'
        when 'COLLATEEXPR' then domicile.node_type(node -> 'arg')
        when 'NAMEDARGEXPR' then domicile.node_type(node -> 'arg')
        when 'BOOLEXPR' then 16::oid when 'NULLTEST' then 16::oid when 'BOOLEANTEST' then 16::oid
        when 'SCALARARRAYOPEXPR' then 16::oid
        else coalesce(node ->> 'vartype', node ->> 'consttype', node ->> 'funcresulttype', node ->> 'opresulttype',
                      node ->> 'casetype', node ->> 'coalescetype', node ->> 'minmaxtype', node ->> 'array_typeid',
                      node ->> 'refrestype', node ->> 'typeId', node ->> 'resulttype')::oid
    end
$$;
comment on function domicile.node_type(jsonb) is 'The type of an expression node; NULL where the node is none.';

create function domicile.base_type(type oid) returns oid
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    with recursive chain(oid, typtype, base) as (
        select t.oid, t.typtype, t.typbasetype from pg_type t where t.oid = type
        union all
        select t.oid, t.typtype, t.typbasetype from pg_type t join chain c on t.oid = c.base where c.typtype = 'd'
    ) select oid from chain where typtype <> 'd'
$$;
comment on function domicile.base_type(oid) is 'The type below a domain; the type itself where it is none.';

create function domicile.nodes(node jsonb) returns setof jsonb
language sql immutable
set search_path = pg_catalog, pg_temp
as $$ select n from jsonb_path_query(node, 'strict $.** ? (exists(@.node))') as q(n) $$;
comment on function domicile.nodes(jsonb) is 'Every node of a tree, itself included.';

create function domicile.node_hides(node jsonb) returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select case
        when node ->> 'node' in ('CONST', 'NULLTEST') then true
        when node ->> 'node' in ('FUNCEXPR', 'OPEXPR', 'DISTINCTEXPR', 'SCALARARRAYOPEXPR') then
            exists (select from domicile.mask_functions f
                    where f.hides and f.function = coalesce((node ->> 'funcid')::oid,
                          (select o.oprcode from pg_operator o where o.oid = (node ->> 'opno')::oid)))
            -- A comparison tells one bit, which is all that a boolean has.
            and (node ? 'funcid' or not exists (
                select from jsonb_array_elements(node -> 'args') as a(arg) where domicile.node_type(arg) = 16))
        else false
    end
$$;
comment on function domicile.node_hides(jsonb) is 'True where no value gets unhidden from below a node to above it.';

create function domicile.shown_columns(node jsonb) returns int[]
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    with recursive walk(n) as (
        select node
        union all
        select child.value
        from walk w cross join lateral (
            select e.value from jsonb_array_elements(case jsonb_typeof(w.n) when 'array' then w.n else '[]' end) e
            union all
            select e.value from jsonb_each(case
                when jsonb_typeof(w.n) <> 'object' then '{}'
                when w.n ->> 'node' = 'NULLIFEXPR' then jsonb_build_object('shown', w.n #> '{args,0}')
                else w.n end) e
        ) child
        where jsonb_typeof(child.value) in ('object', 'array') and (w.n ->> 'node' is null or not domicile.node_hides(w.n))
    )
    select coalesce(array_agg(distinct (n ->> 'varattno')::int), '{}') from walk where n ->> 'node' = 'VAR'
$$;
comment on function domicile.shown_columns(jsonb) is
'Attribute numbers of the columns whose value may reach the result of the expression unhidden: on some path from the column to the root stands no function that hides.';

create function domicile.argument(call jsonb, name text, place int) returns jsonb
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
    select coalesce(arg -> 'arg', arg) from jsonb_path_query(call, '$.args[*]') with ordinality as a(arg, i)
    where case when arg ->> 'node' = 'NAMEDARGEXPR' then arg ->> 'name' = argument.name else i = place end
$$;
comment on function domicile.argument(jsonb, text, int) is 'An argument of a call, by name or place; NULL where it is left out.';

create function domicile.text_constant(node jsonb) returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
    -- "9 [ 36 0 0 0 121 101 97 114 … ]": the length, then signed bytes, four of them a header.
    select convert_from(decode(string_agg(lpad(to_hex(byte::int & 255), 2, '0'), '' order by i), 'hex'), getdatabaseencoding())
    from regexp_matches(substring(node ->> 'constvalue' from '\[.*\]'), '-?\d+', 'g') with ordinality as b(m, i),
         unnest(m) as byte
    where node ->> 'node' = 'CONST' and (node ->> 'consttype')::oid = 'text'::regtype and i > 4
$$;
comment on function domicile.text_constant(jsonb) is 'The value of a text constant that is not empty; NULL for any other node.';

create function domicile.argument_problem(call jsonb, name name, first_type oid, out problem text, out advice text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    given jsonb;
    word text;
begin
    if name in ('pseudonym', 'fake') then
        given := domicile.argument(call, 'domain', case name when 'fake' then 3 else 2 end);
        if given is not null and domicile.text_constant(given) is null then
            problem := 'does not name the domain by a constant';
            advice := 'Write domain => ''person'', or leave it out for the column''s own.';
        end if;
    end if;
    -- What these don't know they answer with NULL: that is safe, and seldom what was meant.
    if name = 'fake' then
        word := domicile.text_constant(domicile.argument(call, 'kind', 2));
        if word is not null and domicile.fake_pick(sha256(''), word) is null then
            problem := format('asks for a fake %L', word);
            advice := 'There are fakes of kind name, email and city.';
        end if;
    elsif name = 'generalize' then
        word := domicile.text_constant(domicile.argument(call, 'unit', 2));
        if word is not null and (domicile.unit_length(word) is null
                or word in ('hour', 'day') and first_type in ('date'::regtype, 'daterange'::regtype)) then
            problem := format('generalizes to %L', word);
            advice := case when first_type in ('date'::regtype, 'daterange'::regtype) then '' else 'hour, day, ' end
                || 'week, month, quarter, year, decade and century are known.';
        end if;
    end if;
end
$$;
comment on function domicile.argument_problem(jsonb, name, oid) is
'What is wrong with the constants in a call of a mask function, and the way out; NULLs where nothing is.';

create function domicile.check_nodes(rel regclass, node jsonb, range_index int, own_type oid, subject text) returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    -- Types whose text form follows no setting.
    plain constant oid[] := array['bool', 'int2', 'int4', 'int8', 'numeric', 'text', 'varchar', 'bpchar', 'uuid', 'inet',
                                  'cidr', 'macaddr', 'bit', 'varbit', 'json', 'jsonb', 'oid']::regtype[]::oid[];
    texts constant oid[] := array['text', 'varchar', 'bpchar']::regtype[]::oid[];
    raises boolean := false;
    n jsonb;
    kind text;
    problem text;
    advice text;
    source oid;
    target oid;
    called record;
begin
    -- Casts by way of text last: what is below them is the likelier mistake.
    for n in select d from domicile.nodes(node) with ordinality as r(d, i) order by d ->> 'node' = 'COERCEVIAIO', i loop
        kind := n ->> 'node';
        problem := null;
        advice := 'A mask computes from its own row with the functions that domicile.mask_functions lists.';
        case
        when kind = 'VAR' then
            if (n ->> 'varno')::int <> range_index or n ->> 'varlevelsup' <> '0' then
                problem := 'reads something other than its row';
            elsif (n ->> 'varattno')::int = 0 then
                problem := 'takes the whole row';
                advice := 'Name the columns.';
            elsif (n ->> 'varattno')::int < 0 then
                problem := format('reads the system column %I', (select attname from pg_attribute
                    where attrelid = rel and attnum = (n ->> 'varattno')::int));
                advice := 'System columns tell of storage and change without notice.';
            end if;
        when kind in ('CONST', 'BOOLEXPR', 'NULLTEST', 'BOOLEANTEST', 'CASEEXPR', 'CASEWHEN', 'CASETESTEXPR',
                      'COALESCEEXPR', 'ARRAYEXPR', 'NAMEDARGEXPR', 'COLLATEEXPR', 'RELABELTYPE', 'ARRAYCOERCEEXPR',
                      'FIELDSELECT') then
            null;
        when kind in ('FUNCEXPR', 'OPEXPR', 'DISTINCTEXPR', 'NULLIFEXPR', 'SCALARARRAYOPEXPR') then
            select p.oid, p.oid::regprocedure::text as name, p.proname, p.pronamespace, p.provolatile, p.proretset, p.prorettype, p.proargtypes[0] as first_type, o.oprname
              into strict called
              from pg_proc p left join pg_operator o on o.oid = (n ->> 'opno')::oid
             where p.oid = coalesce((n ->> 'funcid')::oid, o.oprcode);
            -- Casts of an array's elements have no collation, and need none.
            if n ->> 'inputcollid' = '0' and coalesce(n ->> 'funcformat', '0') = '0' and exists (select from jsonb_path_query(n, '$.args[*]') as a(arg)
                    join pg_type t on t.oid = domicile.node_type(arg) where t.typcollation <> 0) then
                problem := format('gives %s texts of two collations', called.name);
                advice := 'Say which one counts, by COLLATE after one of them.';
            elsif exists (select from domicile.mask_functions f where f.function = called.oid) then
                raises := raises or (select f.raises from domicile.mask_functions f where f.function = called.oid);
                if called.pronamespace = 'domicile'::regnamespace then
                    select * into problem, advice from domicile.argument_problem(n, called.proname, called.first_type);
                end if;
            else
                problem := format(case when called.oprname is null then 'calls %s' else 'uses the operator %2$s, which calls %1$s' end,
                                  called.name, called.oprname);
                problem := problem || case
                    when called.proretset then ', which returns a set'
                    when called.provolatile <> 'i' then ', which is not immutable'
                    else ', a function outside the list' end;
                advice := case
                    when called.pronamespace <> 'pg_catalog'::regnamespace then
                        'A function outside pg_catalog could be replaced by its owner. domicile.mask_functions lists what a mask may use.'
                    when called.proname ~ '^(md5|sha|hash|crc)' then
                        'A hash without a key is undone by trying all values. Use domicile.pseudonym.'
                    when called.proname ~ 'regex|similar' or called.proname = 'substring' then
                        'The run time of a regular expression over a value has no bound. Use LIKE, split_part, domicile.partial or domicile.partial_email.'
                    when called.proname in ('concat', 'concat_ws', 'format', 'textanycat', 'anytextcat') then
                        'It prints any type by the session''s settings. Use || over text, with casts where needed.'
                    when called.proname in ('now', 'random', 'clock_timestamp', 'statement_timestamp', 'timeofday', 'gen_random_uuid') then
                        'A mask must give the same value whenever it is read. domicile.noise is fixed for each row.'
                    when called.prorettype in ('date'::regtype, 'timestamp'::regtype, 'timestamptz'::regtype) then
                        'Use domicile.generalize for dates and times. domicile.mask_functions lists what a mask may use.'
                    else 'select signature from domicile.mask_functions lists what a mask may use.' end;
            end if;
        when kind = 'MINMAXEXPR' then
            target := domicile.base_type((n ->> 'minmaxtype')::oid);
            if not exists (select from pg_type t where t.oid = target and (t.typtype = 'e' or t.oid < 16384 and t.typtype = 'b' and t.typelem = 0)) then
                problem := format('compares values of type %s by GREATEST or LEAST', format_type(target, null));
                advice := 'Only built-in scalar types and enums may be compared.';
            end if;
        when kind = 'COERCEVIAIO' then
            source := domicile.base_type(domicile.node_type(n -> 'arg'));
            target := (n ->> 'resulttype')::oid;
            if not exists (select from pg_type t where t.oid = source and (t.typtype = 'e' or t.oid = any (plain)))
               or not exists (select from pg_type t where t.oid = target and (t.typtype = 'e' or t.oid = any (plain))) then
                problem := format('casts %s to %s by way of text', format_type(source, null), format_type(target, null));
                advice := 'The text form of that type follows settings of the session, which a foreign role may change. Use domicile.generalize for dates and times, domicile.redact for anything.';
            end if;
            raises := raises or target <> all (texts);
        when kind = 'COERCETODOMAIN' then
            if (n ->> 'resulttype')::oid is distinct from own_type then
                problem := format('casts to the domain %s', (n ->> 'resulttype')::oid::regtype);
                advice := 'The CHECK of a domain runs functions. Cast to the type below it.';
            else
                perform domicile.check_domain(own_type, subject);
            end if;
            raises := true;
        when kind = 'SUBSCRIPTINGREF' then
            if not exists (select from pg_type t where t.oid = (n ->> 'refcontainertype')::oid
                and t.typsubscript in ('array_subscript_handler'::regproc, 'raw_array_subscript_handler'::regproc, 'jsonb_subscript_handler'::regproc)) then
                problem := format('takes a part of a %s by subscript', (n ->> 'refcontainertype')::oid::regtype);
                advice := 'Only arrays and jsonb may be subscripted.';
            end if;
        else
            problem := 'holds ' || case kind
                when 'SUBLINK' then 'a sub-query' when 'AGGREF' then 'an aggregate' when 'WINDOWFUNC' then 'a window function'
                when 'GROUPINGFUNC' then 'GROUPING' when 'ROWEXPR' then 'a row constructor' when 'ROWCOMPAREEXPR' then 'a comparison of rows'
                when 'SQLVALUEFUNCTION' then 'CURRENT_USER, CURRENT_DATE or one of their kind' when 'XMLEXPR' then 'an XML constructor'
                when 'PARAM' then 'a parameter' when 'NEXTVALUEEXPR' then 'a sequence' when 'CONVERTROWTYPEEXPR' then 'a cast of a row'
                else case when kind like 'JSON%' then 'a JSON constructor' else 'the construct ' || coalesce(kind, 'unknown') end end;
        end case;
        if problem is not null then
            raise exception '% is refused: it %', subject, problem using errcode = '42P17', hint = advice;
        end if;
    end loop;
    return raises;
end
$$;
comment on function domicile.check_nodes(regclass, jsonb, int, oid, text) is
'True where the expression may raise, false where it can''t; raises 42P17 on the first construct that is not allowed. own_type: the one domain that may be cast to.';

create function domicile.check_domain(type oid, subject text) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    if not domicile.harmless_domain(type) then
        raise exception '% is refused: the CHECK of the domain % calls a function outside pg_catalog or one that is not immutable',
            subject, type::regtype using errcode = '42P17', hint = 'Leave the column out of the policy: it is then withheld. Or change its type.';
    end if;
end
$$;
comment on function domicile.check_domain(oid, text) is 'Nothing where a domain''s CHECKs are harmless; raises 42P17 where not.';

create function domicile.harmless_domain(type oid) returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    with recursive chain(oid, base, typtype) as (
        select t.oid, t.typbasetype, t.typtype from pg_type t where t.oid = type
        union all
        select t.oid, t.typbasetype, t.typtype from pg_type t join chain c on t.oid = c.base where c.typtype = 'd'
    )
    select not exists (
        select from chain c
        join pg_constraint k on k.contypid = c.oid
        cross join lateral domicile.nodes(domicile.node_tree(k.conbin::text)) as d(n)
        left join pg_operator o on o.oid = (d.n ->> 'opno')::oid
        left join pg_proc p on p.oid = coalesce((d.n ->> 'funcid')::oid, o.oprcode)
        where d.n ->> 'node' not in ('COERCETODOMAINVALUE', 'CONST', 'BOOLEXPR', 'NULLTEST', 'BOOLEANTEST', 'CASEEXPR', 'CASEWHEN',
            'CASETESTEXPR', 'COALESCEEXPR', 'ARRAYEXPR', 'COLLATEEXPR', 'RELABELTYPE', 'FUNCEXPR', 'OPEXPR', 'DISTINCTEXPR',
            'NULLIFEXPR', 'SCALARARRAYOPEXPR')
           or p.oid is not null and (p.oid >= 16384 or p.provolatile <> 'i'))
$$;
comment on function domicile.harmless_domain(oid) is
'True where every CHECK of a domain, and of the domains below it, calls immutable functions of pg_catalog alone.';

-- Masks -----------------------------------------------------------------------------------------------------------------

create function domicile.check_mask_parts(rel regclass, column_name text, expression text,
    out class text, out canonical text, out raises boolean, out shown int[], out used int[], out keyed bigint, out printed text)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    subject text := format('mask of column %I of table %s', column_name, rel);
    col pg_attribute;
    own_base oid;
    plain record;
    cast_to record;
    root jsonb;
    inner_node jsonb;
    pseudonym_of_own boolean := false;
    mask_base oid;
    room int;
    key_name text;
    is_null boolean;
begin
    select a.* into col from pg_attribute a
        where a.attrelid = rel and a.attname = column_name and a.attnum > 0 and not a.attisdropped;
    if not found then
        raise exception 'column "%" of table % does not exist', column_name, rel using errcode = '42703',
            hint = 'The columns are ' || (select string_agg(quote_ident(a.attname), ', ' order by a.attnum) from pg_attribute a
                where a.attrelid = rel and a.attnum > 0 and not a.attisdropped) || '.';
    end if;
    own_base := domicile.base_type(col.atttypid);
    select * into plain from domicile.analysed(rel, expression, subject);
    raises := domicile.check_nodes(rel, plain.node, plain.range_index, col.atttypid, subject);
    shown := domicile.shown_columns(plain.node);
    if col.attnum = any (shown) then
        raise exception '% shows the column''s own value', subject using errcode = '42P17',
            detail = 'The value can reach the result without passing a function that hides it.',
            hint = format('To show it, name it in CLEAR (%I). To hide it, pass it through a function of the domicile schema, such as domicile.partial or domicile.pseudonym.', column_name);
    end if;
    if plain.canonical is null then
        raise exception '% is not one expression', subject using errcode = '42601',
            hint = 'Write one expression over the columns of the row.';
    end if;

    -- The type is the column's own, or becomes it the way an assignment would.
    mask_base := domicile.base_type(plain.type);
    is_null := plain.node @> '{"node": "CONST", "constisnull": "true"}';
    if mask_base <> own_base and not is_null
       and not exists (select from pg_cast c where c.castsource = mask_base and c.casttarget = own_base and c.castcontext <> 'e') then
        raise exception '% is of type %, the column is of type %', subject, format_type(plain.type, null), format_type(col.atttypid, col.atttypmod)
            using errcode = '42804',
            hint = case when mask_base = 'text'::regtype then 'Write a constant of the column''s type, or cast the result.'
                when own_base in ('date'::regtype, 'timestamp'::regtype, 'timestamptz'::regtype) then 'domicile.generalize keeps the type of dates and times.'
                else 'Cast the result to the column''s type.' end;
    end if;
    select * into cast_to from domicile.analysed(rel,
        format('(%s)::%s', case when is_null then 'null' else plain.canonical end, domicile.type_text(col.atttypid, col.atttypmod)),
        subject, plain.printed);
    raises := domicile.check_nodes(rel, cast_to.node, cast_to.range_index, col.atttypid, subject);
    if cast_to.canonical is null then
        raise exception '% is not one expression', subject using errcode = '42601',
            hint = 'Write one expression over the columns of the row.';
    end if;
    -- Where a mask can't answer it answers NULL. The domain's CHECKs, if they are harmless, are asked whether it may.
    if col.atttypid <> own_base then
        perform domicile.check_domain(col.atttypid, subject);
        begin
            execute format('select null::%s', domicile.type_text(col.atttypid, null));
        exception when not_null_violation or check_violation then
            raise exception '% is refused: the domain % forbids NULL, which a mask gives where it can''t compute', subject, col.atttypid::regtype
                using errcode = '42P17', hint = 'Leave the column out of the policy: it is then withheld. Or change its type.';
        end;
    end if;
    canonical := cast_to.canonical;
    printed := plain.printed;
    keyed := domicile.keyed_calls(cast_to.node);
    used := array(select distinct (n ->> 'varattno')::int from domicile.nodes(cast_to.node) n where n ->> 'node' = 'VAR' order by 1);

    -- Class: a pseudonym straight of the column itself keeps equal and unequal apart, nothing else is known to.
    root := plain.node;
    while root ->> 'node' = 'RELABELTYPE' loop
        root := root -> 'arg';
    end loop;
    class := 'lossy';
    if root ->> 'node' = 'FUNCEXPR' and exists (select from pg_proc p where p.oid = (root ->> 'funcid')::oid
                                                and p.proname = 'pseudonym' and p.pronamespace = 'domicile'::regnamespace) then
        inner_node := root #> '{args,0}';
        while inner_node ->> 'node' in ('RELABELTYPE', 'NAMEDARGEXPR')
           or inner_node @> jsonb_build_object('node', 'FUNCEXPR', 'funcid', 'pg_catalog.text(bpchar)'::regprocedure::oid::text) loop
            inner_node := coalesce(inner_node -> 'arg', inner_node #> '{args,0}');
        end loop;
        pseudonym_of_own := inner_node ->> 'node' = 'VAR' and (inner_node ->> 'varattno')::int = col.attnum;
        if pseudonym_of_own then
            class := case when (root ->> 'funcresulttype')::oid in ('int4'::regtype, 'int8'::regtype) then 'collision-possible' else 'preserved' end;
        end if;
        room := case when own_base in ('varchar'::regtype, 'bpchar'::regtype) and col.atttypmod > 4 then col.atttypmod - 4 end;
        if room < 32 then
            raise exception '% does not fit: a pseudonym has 32 characters, the column %', subject, room
                using errcode = '42P17', hint = 'Make the column longer, or use domicile.partial or domicile.redact.';
        end if;
    end if;
    if class <> 'preserved' then
        key_name := domicile.key_over(rel, col.attnum);
        if key_name is not null then
            raise exception '% is %, which % does not allow', subject, class, key_name using errcode = '42P17',
                detail = 'Two rows may get one value, so that keys would repeat and joins go wrong.',
                hint = format('Use domicile.pseudonym(%I) where the type is text, uuid or bytea, or name the column in CLEAR, or leave it out: it is then withheld.', column_name);
        end if;
    end if;
end
$$;
comment on function domicile.check_mask_parts(regclass, text, text) is
'All that is known of a mask: its class, its canonical text cast to the column''s type, whether it may raise, the columns that it shows unhidden, and those that it reads. Raises as domicile.check_mask does.';

create function domicile.keyed_calls(node jsonb) returns bigint
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select count(*) from domicile.nodes(node) n join domicile.mask_functions f on f.function = (n ->> 'funcid')::oid where f.keyed
$$;
comment on function domicile.keyed_calls(jsonb) is 'How many calls of keyed mask functions an expression holds.';

create function domicile.type_text(type oid, typmod int) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$ select format_type(type, typmod) $$;
comment on function domicile.type_text(oid, int) is 'The type''s name as SQL, qualified where it is not of pg_catalog.';

create function domicile.key_over(rel regclass, attnum smallint) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select name from (
        select case c.contype when 'p' then 'the primary key ' when 'u' then 'the unique constraint ' else 'the foreign key ' end
               || quote_ident(c.conname)
               || case when c.conrelid <> rel then ' of table ' || c.conrelid::regclass else '' end as name
        from pg_constraint c
        where c.conrelid = rel and c.contype in ('p', 'u', 'f') and key_over.attnum = any (c.conkey)
           or c.confrelid = rel and c.contype = 'f' and key_over.attnum = any (c.confkey)
        union all
        select 'the unique index ' || quote_ident(i.indexrelid::regclass::text)
        from pg_index i
        where i.indrelid = rel and i.indisunique
          and (key_over.attnum = any (i.indkey)
               or exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = i.indexrelid
                          and d.refclassid = 'pg_class'::regclass and d.refobjid = rel and d.refobjsubid = key_over.attnum))
    ) k order by name collate "C" limit 1
$$;
comment on function domicile.key_over(regclass, smallint) is
'The first primary key, UNIQUE or FOREIGN KEY constraint (from it or to it) or unique index that the column has part in, in words; NULL where there is none.';

create function domicile.check_mask(rel regclass, column_name text, expression text, clear text[] default '{}') returns text
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    checked record;
    bare text;
begin
    select * into checked from domicile.check_mask_parts(rel, column_name, expression);
    select c into bare from unnest(domicile.column_names(rel, checked.shown)) c where c <> all (coalesce(clear, '{}'));
    if found then
        raise exception 'mask of column % of table % shows the value of column %', quote_ident(column_name), rel, quote_ident(bare)
            using errcode = '42P17', detail = 'The value can reach the result without passing a function that hides it, and is not CLEAR in the same policy.',
            hint = format('Name %I in CLEAR, or pass it through a function of the domicile schema, such as domicile.partial or domicile.pseudonym.', bare);
    end if;
    return checked.class;
end
$$;
comment on function domicile.check_mask(regclass, text, text, text[]) is
'The class of a mask expression: preserved (equal stays equal, different stays different), collision-possible (different values may meet, rarely) or lossy. Raises 42P17 where the expression is refused, the analyser''s own SQLSTATE where it makes no sense, 42804 where its type does not become the column''s. clear: the columns that the same policy shows in clear, the only ones whose values the mask may let through unhidden. The message names column and table; the HINT says the way out. Reads no row, and needs a transaction that may write.';

create function domicile.column_names(rel regclass, attnums int[]) returns text[]
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select coalesce(array_agg(a.attname::text order by a.attnum), '{}') from pg_attribute a
    where a.attrelid = rel and a.attnum = any (attnums)
$$;
comment on function domicile.column_names(regclass, int[]) is 'Names of columns by their numbers, in catalog order.';

create function domicile.mask_columns(rel regclass, expression text) returns text[]
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    subject text := format('expression over table %s', rel);
    a record;
begin
    select * into a from domicile.analysed(rel, expression, subject);
    perform domicile.check_nodes(rel, a.node, a.range_index, null, subject);
    if a.canonical is null then
        raise exception '% is not one expression', subject using errcode = '42601', hint = 'Write one expression over the columns of the row.';
    end if;
    return domicile.column_names(rel, array(select (n ->> 'varattno')::int from domicile.nodes(a.node) n where n ->> 'node' = 'VAR'));
end
$$;
comment on function domicile.mask_columns(regclass, text) is
'All columns that an expression reads, in catalog order. A mask whose columns include a TOASTable one other than its own must have its table''s full old image in the stream.';

create function domicile.mask_shown_columns(rel regclass, expression text) returns text[]
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    subject text := format('expression over table %s', rel);
    a record;
begin
    select * into a from domicile.analysed(rel, expression, subject);
    perform domicile.check_nodes(rel, a.node, a.range_index, null, subject);
    if a.canonical is null then
        raise exception '% is not one expression', subject using errcode = '42601', hint = 'Write one expression over the columns of the row.';
    end if;
    return domicile.column_names(rel, domicile.shown_columns(a.node));
end
$$;
comment on function domicile.mask_shown_columns(regclass, text) is
'The columns whose value an expression may show unhidden: email = lower(name) shows name. domicile.check_mask accepts a mask only where each of these is CLEAR in the same policy.';

create function domicile.mask_domain(rel regclass, column_name text) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    -- Follow foreign keys to the column that all of them refer to, ten steps at most, never twice through one column.
    with recursive step(rel, attnum, depth, seen) as (
        select a.attrelid::oid, a.attnum, 0, array[a.attrelid::text || '.' || a.attnum]
        from pg_attribute a where a.attrelid = mask_domain.rel and a.attname = column_name and not a.attisdropped
        union all
        select target.confrelid, target.attnum, s.depth + 1, s.seen || (target.confrelid::text || '.' || target.attnum)
        from step s cross join lateral (
            select c.confrelid, c.confkey[array_position(c.conkey, s.attnum)] as attnum
            from pg_constraint c
            where c.contype = 'f' and c.conrelid = s.rel and s.attnum = any (c.conkey) and c.conparentid = 0
            order by c.conname collate "C" limit 1
        ) target
        where s.depth < 10 and not (target.confrelid::text || '.' || target.attnum) = any (s.seen)
    )
    select n.nspname || '.' || c.relname || '.' || a.attname
    from step s join pg_class c on c.oid = s.rel join pg_namespace n on n.oid = c.relnamespace
    join pg_attribute a on a.attrelid = s.rel and a.attnum = s.attnum
    order by s.depth desc limit 1
$$;
comment on function domicile.mask_domain(regclass, text) is
'The key domain of keyed masks of a column where the policy names none: schema.table.column, of the column itself or, through foreign keys, of the one that it refers to in the end, so that pseudonyms stay joinable.';

-- What stands in a view --------------------------------------------------------------------------------------------------

create function domicile.sql_tokens(canonical text) returns text[]
language sql immutable strict
set search_path = pg_catalog, pg_temp
as $$
    -- Enough for the text that pg_get_viewdef prints, which holds no comments, no dollar quotes, no \' in strings, and
    -- no backslash outside strings and quoted names, where it marks the place of a key (domicile.with_keys).
    select array_agg(m[1] order by n)
    from regexp_matches(canonical, '(''(?:[^'']|'''')*''|"(?:[^"]|"")*"|\\(?:inner|outer) \d+\\|[[:alpha:]_][[:alnum:]_$]*|=>|\s+|.)', 'g')
         with ordinality as r(m, n)
$$;
comment on function domicile.sql_tokens(text) is 'Canonical SQL text cut into tokens; joined again they give the text.';

create function domicile.row_identity(rel regclass, subject text) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    part record;
    parts text[] := '{}';
begin
    for part in
        select a.attname, domicile.base_type(a.atttypid) as base, t.typtype
        from pg_index i cross join lateral unnest(i.indkey) with ordinality as k(attnum, n)
        join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
        join pg_type t on t.oid = domicile.base_type(a.atttypid)
        where i.indrelid = rel and i.indisprimary order by k.n
    loop
        parts := parts || case
            when part.typtype = 'e' or part.base in ('int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'numeric'::regtype,
                'uuid'::regtype, 'text'::regtype, 'varchar'::regtype, 'bpchar'::regtype, 'bool'::regtype)
                then format('(t.%I)::text', part.attname)
            when part.base = 'date'::regtype then format('(t.%I - ''2000-01-01''::date)::text', part.attname)
            when part.base = 'timestamp'::regtype then format('(extract(epoch from t.%I))::text', part.attname)
            when part.base = 'timestamptz'::regtype then format('(extract(epoch from timezone(''UTC'', t.%I)))::text', part.attname)
        end;
        if parts[cardinality(parts)] is null then
            raise exception '% uses noise, but the primary key column % is of type %', subject, quote_ident(part.attname), format_type(part.base, null)
                using errcode = '42P17', hint = 'Noise is fixed by the primary key, of whole numbers, uuid, text, dates or times. Use domicile.generalize.';
        end if;
    end loop;
    if parts = '{}' then
        raise exception '% uses noise, but the table has no primary key', subject
            using errcode = '42P17', hint = 'Noise is fixed by the primary key, else averaging would undo it. Add one, or use domicile.generalize.';
    end if;
    return array_to_string(parts, ' || ''/'' || ');
end
$$;
comment on function domicile.row_identity(regclass, text) is
'The primary key of a row as one text expression over t that no setting changes. Raises 42P17 where there is none.';

create function domicile.with_keys(rel regclass, column_name text, canonical text, subject text,
    out expanded text, out domains text[])
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    tokens text[] := domicile.sql_tokens(canonical);
    names text[];
    args text[];
    label text;
    depth int;
    at int;
    stop int;
    domain text;
    made text;
begin
    domains := '{}';
    -- From the right, so that a call within another's arguments is done first. In place of a key stands a mark that no
    -- printed SQL holds, \inner n\ or \outer n\, n counting domains.
    loop
        select max(i) into at from generate_subscripts(tokens, 1) i
            where tokens[i:i + 1] = array['domicile', '.'] and tokens[i + 2] in ('pseudonym', 'noise', 'fake') and tokens[i + 3] = '(';
        exit when at is null;
        names := case tokens[at + 2] when 'pseudonym' then array['value', 'domain'] when 'noise' then array['value', 'spread']
                 else array['value', 'kind', 'domain'] end;
        args := array_fill(null::text, array[3]);
        depth := 1;
        stop := at + 4;
        made := '';
        label := names[1];
        while depth > 0 loop
            if tokens[stop] in ('(', '[') then
                depth := depth + 1;
            elsif tokens[stop] in (')', ']') then
                depth := depth - 1;
            end if;
            if depth = 0 or depth = 1 and tokens[stop] = ',' then
                args[array_position(names, label)] := btrim(made);
                label := names[array_position(names, label) + 1];
                made := '';
            elsif depth = 1 and tokens[stop] = '=>' then
                label := btrim(made);
                made := '';
            else
                made := made || tokens[stop];
            end if;
            stop := stop + 1;
        end loop;
        domain := domicile.mask_domain(rel, column_name);
        made := args[array_position(names, 'domain')];
        if made is not null then
            if made !~ '^''([^''\\]|'''')+''::text$' then
                raise exception '% does not name the domain by a plain constant', subject using errcode = '42P17',
                    hint = 'Write domain => ''person''.';
            end if;
            domain := replace(substr(made, 2, length(made) - 8), '''''', '''');
        end if;
        if not domain = any (domains) then
            domains := domains || domain;
        end if;
        made := format('domicile.%s_with(%s, %s\inner %s\, \outer %4$s\)', tokens[at + 2], args[1],
            case tokens[at + 2]
                when 'noise' then args[2] || ', ' || domicile.row_identity(rel, subject) || ', '
                when 'fake' then args[2] || ', ' else '' end,
            array_position(domains, domain));
        tokens := tokens[:at - 1] || domicile.sql_tokens(made) || tokens[stop:];
    end loop;
    expanded := array_to_string(tokens, '');
end
$$;
comment on function domicile.with_keys(regclass, text, text, text) is
'A canonical mask with its keyed functions in the form that takes a key, marks in the places of the keys, and the domains that the marks count.';

create function domicile.key_text(domain text, pad text) returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$ select format('(select k.%I from domicile.mask_key k where k.domain = %L)', pad, domain) $$;
comment on function domicile.key_text(text, text) is 'The scalar subquery that reads one pad of a domain''s key as the views'' owner.';

create function domicile.put_keys(expanded text, inner_keys text[], outer_keys text[]) returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
    select string_agg(case when token like '\\inner %' then inner_keys[substring(token from '\d+')::int]
                           when token like '\\outer %' then outer_keys[substring(token from '\d+')::int]
                           else token end, '' order by n)
    from unnest(domicile.sql_tokens(expanded)) with ordinality as r(token, n)
$$;
comment on function domicile.put_keys(text, text[], text[]) is
'The text of domicile.with_keys with the n-th texts in the places of its n-th marks.';

create function domicile.wrapped(rel regclass, column_name text, expanded text, domains text[], used int[], result text) returns text
language plpgsql
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
    superuser boolean;
    name text := 'mask_' || left(md5(concat_ws(E'\n', rel::oid, column_name, expanded, result, domains::text, used::text)), 20);
    tokens text[] := domicile.sql_tokens(expanded);
    body text := '';
    parameters text[] := '{}';
    arguments text[] := '{}';
    inner_keys text[] := '{}';
    outer_keys text[] := '{}';
    col record;
    place int;
    i int := 1;
begin
    for col in select a.attname, a.atttypid from pg_attribute a where a.attrelid = rel and a.attnum = any (used) order by a.attnum loop
        parameters := parameters || domicile.type_text(col.atttypid, null);
        arguments := arguments || format('t.%I', col.attname);
    end loop;
    while i <= cardinality(tokens) loop
        place := array_position(arguments, 't.' || tokens[i + 2]);
        if tokens[i] = 't' and tokens[i + 1] = '.' and place is not null
           and coalesce(tokens[i - 1], '') not in ('.', ':') and tokens[i - 2] is distinct from 'COLLATE' then
            body := body || '$' || place;
            i := i + 3;
        else
            body := body || tokens[i];
            i := i + 1;
        end if;
    end loop;
    for i in 1 .. cardinality(domains) loop
        inner_keys := inner_keys || ('$' || cardinality(parameters) + 1);
        outer_keys := outer_keys || ('$' || cardinality(parameters) + 2);
        parameters := parameters || '{bytea,bytea}'::text[];
        arguments := arguments || domicile.key_text(domains[i], 'inner_pad') || domicile.key_text(domains[i], 'outer_pad');
    end loop;
    body := domicile.put_keys(body, inner_keys, outer_keys);
    -- The name is a digest of all that the function is made of: where it exists, it is this one.
    if not exists (select from pg_proc p where p.pronamespace = 'domicile'::regnamespace and p.proname = name) then
        -- Parallel unsafe: an exception block is a subtransaction. The body is read anew in each session, by its settings.
        -- Run as the views' owner: who reads a view has no USAGE on this schema, so that a function named in the body would
        -- raise for every row, and NULL would be the answer to all.
        execute format('create function domicile.%I(%s) returns %s language plpgsql immutable parallel unsafe security definer '
                       'set search_path = pg_catalog, pg_temp %s as %L', name, array_to_string(parameters, ', '),
                       (select domicile.type_text(coalesce(a.atttypid, 'bool'::regtype), null)
                        from (select) one left join pg_attribute a on a.attrelid = rel and a.attname = column_name),
                       case when strpos(body, '\') > 0 then 'set standard_conforming_strings = on' else '' end,
                       format('begin return %s; exception when others then return null; end', body));
        select r.rolsuper into superuser from pg_roles r where r.rolname = current_user;
        if not superuser then
            grant create on schema domicile to domicile_views;
        end if;
        execute format('alter function domicile.%I(%s) owner to domicile_views', name, array_to_string(parameters, ', '));
        if not superuser then
            revoke create on schema domicile from domicile_views;
        end if;
        insert into domicile.mask_wrapper (name, relation, column_name, expression) values (name, rel, column_name, expanded)
            on conflict on constraint mask_wrapper_pkey do nothing;
    end if;
    return format('domicile.%I(%s)', name, array_to_string(arguments, ', '));
end
$$;
comment on function domicile.wrapped(regclass, text, text, text[], int[], text) is
'A call of a function domicile.mask_…, made here and recorded in domicile.mask_wrapper, that computes the expression and answers NULL where it raises. Like the mask functions it is executable by PUBLIC, so that views may compute it for any role, and reads nothing but its arguments.';

create function domicile.ready(rel regclass, column_name text, canonical text, raises boolean, used int[], keyed bigint,
    printed text, result text, collation_wanted oid, subject text) returns text
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    marked record;
    expression text;
    after record;
begin
    select * into marked from domicile.with_keys(rel, column_name, canonical, subject);
    insert into domicile.mask_key (domain) select unnest(marked.domains) on conflict do nothing;
    if marked.expanded like '%domicile.noise\_with(%' then
        used := used || array(select k::int from pg_index x, unnest(x.indkey) k where x.indrelid = rel and x.indisprimary);
    end if;
    if raises then
        expression := domicile.wrapped(rel, column_name, marked.expanded, marked.domains, used, result);
    else
        expression := domicile.put_keys(marked.expanded,
            array(select domicile.key_text(d, 'inner_pad') from unnest(marked.domains) with ordinality as r(d, n) order by n),
            array(select domicile.key_text(d, 'outer_pad') from unnest(marked.domains) with ordinality as r(d, n) order by n));
    end if;
    expression := format('(%s)::%s', expression, result);
    -- Read back what was written: each keyed call has got its two keys, and none is left without.
    select * into after from domicile.analysed(rel, expression, subject, printed);
    if after.canonical is null
       or (select count(*) from domicile.nodes(after.node) n where n ->> 'node' = 'SUBLINK')
          <> 2 * (case when raises then cardinality(marked.domains) else keyed end)
       or domicile.keyed_calls(after.node) > 0 then
        raise exception '% could not be given its keys', subject using errcode = 'XX000',
            detail = 'The expression read back differs from the one written.', hint = 'This is a fault of Domicile: please report the expression.';
    end if;
    return expression || coalesce((
        select format(' collate %I.%I', n.nspname, c.collname)
        from pg_collation c join pg_namespace n on n.oid = c.collnamespace
        where c.oid = collation_wanted and c.oid <> after."collation"), '');
end
$$;
comment on function domicile.ready(regclass, text, text, boolean, int[], bigint, text, text, oid, text) is
'A canonical expression with keys supplied, wrapped where it may raise, cast to its result type and given its collation, and read back.';

create function domicile.wrap_mask(rel regclass, column_name text, expression text) returns text
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    checked record;
    col record;
begin
    select * into checked from domicile.check_mask_parts(rel, column_name, expression);
    select domicile.type_text(a.atttypid, a.atttypmod) as type, a.attcollation as "collation" into col
        from pg_attribute a where a.attrelid = rel and a.attname = column_name and not a.attisdropped;
    return domicile.ready(rel, column_name, checked.canonical, checked.raises, checked.used, checked.keyed, checked.printed,
                          col.type, col."collation", format('mask of column %I of table %s', column_name, rel));
end
$$;
comment on function domicile.wrap_mask(regclass, text, text) is
'The mask as it stands in a view or a stream''s query: an expression over a row named t, of the column''s exact type, length and collation, keys supplied through scalar subqueries on domicile.mask_key (made here where the domain has none), unable to raise on any value. Names outside pg_catalog are qualified: put it into a statement while search_path does not place another schema before pg_catalog. Checks first, as domicile.check_mask.';

-- ROWS ---------------------------------------------------------------------------------------------------------------------

create function domicile.check_rows_parts(rel regclass, expression text,
    out canonical text, out raises boolean, out used int[], out printed text)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    subject text := format('ROWS of table %s', rel);
    a record;
begin
    select * into a from domicile.analysed(rel, expression, subject);
    raises := domicile.check_nodes(rel, a.node, a.range_index, null, subject);
    if domicile.base_type(a.type) <> 'bool'::regtype then
        raise exception '% is of type %, not boolean', subject, format_type(a.type, null) using errcode = '42804',
            hint = 'ROWS says which rows may be seen: write a condition.';
    end if;
    printed := a.printed;
    if domicile.keyed_calls(a.node) > 0 then
        raise exception '% uses a keyed mask function and is refused', subject using errcode = '42P17',
            hint = 'Which rows are seen must not depend on a key.';
    end if;
    canonical := a.canonical;
    if canonical is null then
        raise exception '% is not one expression', subject using errcode = '42601', hint = 'Write one condition over the columns of the row.';
    end if;
    used := array(select distinct (n ->> 'varattno')::int from domicile.nodes(a.node) n where n ->> 'node' = 'VAR' order by 1);
end
$$;
comment on function domicile.check_rows_parts(regclass, text) is 'All that is known of a ROWS condition. Raises as domicile.check_rows does.';

create function domicile.check_rows(rel regclass, expression text) returns void
language sql
set search_path = pg_catalog, pg_temp
as $$ select from domicile.check_rows_parts(rel, expression) $$;
comment on function domicile.check_rows(regclass, text) is
'Nothing where a ROWS condition is boolean, immutable, over the row''s own columns and of listed functions; raises 42P17 or the analyser''s own SQLSTATE where it is not. Reads no row.';

create function domicile.wrap_rows(rel regclass, expression text) returns text
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    checked record;
begin
    select * into checked from domicile.check_rows_parts(rel, expression);
    return domicile.ready(rel, null, checked.canonical, checked.raises, checked.used, 0, checked.printed, 'boolean', 0, format('ROWS of table %s', rel));
end
$$;
comment on function domicile.wrap_rows(regclass, text) is
'The ROWS condition as it stands in a view, over a row named t; NULL, which hides the row, where it would raise. Otherwise as domicile.wrap_mask.';

create function domicile.drop_unused_mask_wrappers() returns int
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    w record;
    dropped int := 0;
begin
    for w in
        select m.name, p.oid::regprocedure as function
        from domicile.mask_wrapper m
        left join pg_proc p on p.proname = m.name and p.pronamespace = 'domicile'::regnamespace
        where not exists (select from pg_depend d where d.refclassid = 'pg_proc'::regclass and d.refobjid = p.oid and d.deptype = 'n')
    loop
        if w.function is not null then
            execute format('drop function %s', w.function);
        end if;
        delete from domicile.mask_wrapper where name = w.name;
        dropped := dropped + 1;
    end loop;
    return dropped;
end
$$;
comment on function domicile.drop_unused_mask_wrappers() is
'Drops the functions domicile.mask_… on which no view depends; how many. Call it after the views were made anew, in the same transaction.';

-- The checker creates views and keys: for those who write policies, that is for the functions that they call.
do $$
declare
    f regprocedure;
begin
    for f in select p.oid from pg_proc p where p.pronamespace = 'domicile'::regnamespace and p.proname in ('node_tree', 'view_text',
        'check_one_expression', 'argument', 'text_constant', 'argument_problem', 'analysed', 'keyed_calls', 'node_type', 'node_hides', 'base_type', 'nodes', 'shown_columns', 'check_nodes', 'harmless_domain', 'check_domain', 'check_mask_parts',
        'type_text', 'key_over', 'check_mask', 'column_names', 'mask_columns', 'mask_shown_columns', 'mask_domain', 'sql_tokens',
        'row_identity', 'with_keys', 'key_text', 'put_keys', 'wrapped', 'ready', 'wrap_mask', 'check_rows_parts', 'check_rows', 'wrap_rows',
        'drop_unused_mask_wrappers')
    loop
        execute format('revoke all on function %s from public', f);
    end loop;
end
$$;

-- 30_regions.sql ------------------------------------------------------------------------------------------

-- The regions of the federation.

create function domicile.set_here(region text, marker uuid default null) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    kept uuid;
    number integer;
begin
    if not exists (select from domicile.region r where r.name = set_here.region) then
        raise undefined_object using message = format('region "%s" does not exist', region),
            hint = format('select domicile.create_region(%L, ''<jurisdiction>'');', region);
    end if;
    if domicile.here() <> region and exists (select from domicile.locality) then
        raise object_in_use using message = format('this database is region "%s" and has managed tables', domicile.here()),
            hint = 'Which region a database is can change only while no table is managed.';
    end if;
    update domicile.region r set marker = coalesce(set_here.marker, r.marker, gen_random_uuid())
        where r.name = set_here.region returning r.marker, r.number into kept, number;
    if domicile.here() is distinct from region then
        insert into domicile.setting values ('here', region) on conflict on constraint setting_pkey do update set value = excluded.value;
        execute format('alter sequence domicile.id_sequence start with %s restart with %s', 1024 + number, 1024 + number);
        perform domicile.changed('set here', jsonb_build_object('region', region));
    end if;
    perform domicile.settle();
    return kept;
end
$$;
comment on function domicile.set_here(text, uuid) is
    'Says which region this database is. Returns its marker, by which others prove that they speak with it';

create function domicile.create_region(
    name text, jurisdiction text, number integer default null, marker uuid default null
) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    given integer := number;
begin
    if name !~ '^[a-z][a-z0-9_]{0,15}$' then
        raise invalid_name using message = format('region name "%s" is not one', name),
            hint = 'It begins with a lower-case letter and holds at most 16 of a-z, 0-9 and _.';
    end if;
    if exists (select from domicile.region r where r.name = create_region.name) then
        raise duplicate_object using message = format('region "%s" already exists', name);
    end if;
    if given is null then
        select min(n) into given from generate_series(1, 1023) n where not exists (select from domicile.region r where r.number = n);
    elsif exists (select from domicile.region r where r.number = given) then
        raise duplicate_object using
            message = format('region number %s is that of region "%s"', given, (select r.name from domicile.region r where r.number = given)),
            hint = 'A region must have the same number in every region''s catalog.';
    end if;
    -- Said at once: a role that has no name abroad would be noticed by its user only.
    perform domicile.foreign_name(m.role, create_region.name) from domicile.mirrored_role() m;
    perform domicile.border_schema(n.nspname::text, create_region.name)
        from domicile.locality l join pg_class c on c.oid = l.rel join pg_namespace n on n.oid = c.relnamespace;
    insert into domicile.region values (name, given, jurisdiction, marker);
    perform domicile.changed('create region', jsonb_build_object('region', name, 'number', given, 'jurisdiction', jurisdiction));
    perform domicile.settle();
    return given;
end
$$;
comment on function domicile.create_region(text, text, integer, uuid) is
    'Adds a region. Returns its number, the next free one unless given; it must be the same in every region''s catalog';

create function domicile.drop_region(name text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    users text;
begin
    if not exists (select from domicile.region r where r.name = drop_region.name) then
        raise undefined_object using message = format('region "%s" does not exist', name);
    end if;
    if name = domicile.here() then
        raise object_in_use using message = format('region "%s" is this one', name);
    end if;
    select string_agg(u, ', ') into users from (
        select format('policy %I on %s', p.name, p.rel) from domicile.policy p where drop_region.name = any (p.regions)
        union all select format('table %s', l.rel) from domicile.locality l where l.home = drop_region.name
        union all select format('mapping %s (%s keys)', e.rel, count(*)) from domicile.mapping_entry e where e.region = drop_region.name group by e.rel
    ) as use (u);
    if users is not null then
        raise dependent_objects_still_exist using message = format('region "%s" is still named', name), detail = users,
            hint = 'Move what lives there and alter what names it first.';
    end if;
    delete from domicile.region r where r.name = drop_region.name;
    perform domicile.changed('drop region', jsonb_build_object('region', name));
    perform domicile.settle();
end
$$;
comment on function domicile.drop_region(text) is 'Removes a region, its border schema and its foreign roles; refused while anything names it';

-- 32_localities.sql ------------------------------------------------------------------------------------------

-- Which tables have a home, and the constraint that refuses a row whose home is elsewhere, whoever writes it.
--
-- A constraint, not a trigger: ATTACH PARTITION passes by triggers. Not a CHECK with a look-up: it goes stale in silence
-- when the look-up changes. A mapped key refers to the list of keys at home here, so PostgreSQL itself also refuses to
-- take a key from that list while rows depend on it.

create function domicile.home_expression(rel regclass, alias text, depth integer default 0) returns text
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    l domicile.locality;
    parent_alias text := 'p' || depth;
begin
    select * into l from domicile.locality where locality.rel = home_expression.rel;
    if depth > 16 then
        raise program_limit_exceeded using message = format('the parents of table %s are nested too deep or in a circle', rel);
    end if;
    return case
        when l.locality = 'regional' then quote_literal(l.home)
        when l.key_kind = 'region' then format('%s.%I::text', alias, l.columns[1])
        when l.key_kind = 'mapped' then format(
            '(select e.region from domicile.mapping_entry e where e.rel = %s and e.key = %s.%I::text)', l.mapping::oid, alias, l.columns[1])
        when l.key_kind = 'id' then format('(select r.name from domicile.region r where r.number = (%s.%I & 1023))', alias, l.columns[1])
        when l.key_kind = 'parent' then format('(select %s from %s %s where (%s) = (%s))',
            domicile.home_expression(l.parent, parent_alias, depth + 1), l.parent, parent_alias,
            (select string_agg(format('%s.%I', parent_alias, c), ', ' order by o) from unnest(l.parent_columns) with ordinality u (c, o)),
            (select string_agg(format('%s.%I', alias, c), ', ' order by o) from unnest(l.columns) with ordinality u (c, o)))
    end;
end
$$;
comment on function domicile.home_expression(regclass, text, integer) is 'The SQL expression that names the home of a row of a managed table';

create function domicile.rows_by_home(rel regclass) returns table (home text, rows bigint, problem text)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    l domicile.locality;
    missing text;
begin
    select * into l from domicile.locality where locality.rel = rows_by_home.rel;
    if not found then
        raise object_not_in_prerequisite_state using message = format('table %s is not managed', rel);
    end if;
    missing := coalesce((select string_agg(format('t.%I is null', c), ' or ') from unnest(l.columns) c), 'false');
    return query execute format($q$
        select h.home, count(*), case when h.missing then 'NULL in the residency key'
            when h.home is null then 'no region for the residency key'
            when not exists (select from domicile.region r where r.name = h.home) then 'no such region' end
        from (select %s as home, (%s) as missing from %s t) h group by h.home, h.missing order by 2 desc
    $q$, domicile.home_expression(rel, 't'), missing, rel);
end
$$;
comment on function domicile.rows_by_home(regclass) is
    'How many rows of a managed table are at home where, and how many have no home and why. Reads the whole table';

create function domicile.must_have_column(rel regclass, column_name text) returns pg_catalog.pg_attribute
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    a pg_attribute;
begin
    select * into a from pg_attribute where attrelid = rel and attname = column_name and attnum > 0 and not attisdropped;
    if not found then
        raise undefined_column using message = format('column "%s" of table %s does not exist', column_name, rel),
            hint = (select format('Its columns are: %s.', string_agg(attname, ', ' order by attnum)) from pg_attribute
                where attrelid = rel and attnum > 0 and not attisdropped);
    end if;
    return a;
end
$$;
comment on function domicile.must_have_column(regclass, text) is 'The column''s catalog row; raises naming the table where there is none';

create function domicile.speakers(rel regclass) returns table (object text, why text)
language sql stable set search_path = pg_catalog, pg_temp
as $$
    select c.conname::text, 'a deferrable constraint: its error at COMMIT names values'
    from pg_constraint c where c.conrelid = $1 and c.condeferrable and c.contype in ('u', 'p', 'x')
    union all
    select t.tgname::text, case when p.prosrc ~* '\mraise\M' then 'a trigger that RAISEs: messages reach who writes from abroad'
        else 'a trigger that NOTIFYs: every role may LISTEN' end
    from pg_trigger t join pg_proc p on p.oid = t.tgfoid
    where t.tgrelid = $1 and not t.tgisinternal and p.pronamespace <> 'domicile'::regnamespace
    and p.prosrc ~* '\m(raise|notify|pg_notify)\M'
    order by 1
$$;
comment on function domicile.speakers(regclass) is
    'Constraints and triggers of a table that could carry values across a border in their words, to be accepted by name';

create function domicile.at_home_name(mapping regclass) returns text
language sql stable strict set search_path = pg_catalog, pg_temp
return (
    select left('at_home_' || case when n.nspname = 'public' then '' else n.nspname || '_' end || c.relname, 54)
    from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = $1
);
comment on function domicile.at_home_name(regclass) is 'The name of the list, in schema domicile, of a mapping''s keys at home here';

create function domicile.set_mapping(rel regclass, key_column text default null, region_column text default null) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    pk text[] := domicile.primary_key(rel);
    key_attribute pg_attribute;
    others text[];
    list text := domicile.at_home_name(rel);
begin
    perform domicile.must_be_somewhere();
    if key_column is null and cardinality(pk) = 1 then
        key_column := pk[1];
    elsif key_column is null then
        raise invalid_table_definition using message = format('table %s has no primary key of one column to map from', rel),
            hint = format('select domicile.set_mapping(%L, ''<key column>'', ''<region column>'');', rel);
    end if;
    key_attribute := domicile.must_have_column(rel, key_column);
    if region_column is null then
        select array_agg(attname::text order by attname <> 'region') into others from pg_attribute
            where attrelid = rel and attnum > 0 and not attisdropped and attname <> key_column;
        if others[1] = 'region' or cardinality(others) = 1 then
            region_column := others[1];
        else
            raise ambiguous_column using message = format('which column of table %s names the region?', rel),
                hint = format('select domicile.set_mapping(%L, %L, ''<region column>'');', rel, key_column);
        end if;
    end if;
    perform domicile.must_have_column(rel, region_column);
    if not exists (select from domicile.mapping m where m.rel = set_mapping.rel) then
        execute format('create table domicile.%I (key %s%s primary key)', list, format_type(key_attribute.atttypid, key_attribute.atttypmod),
            (select format(' collate %I.%I', n.nspname, c.collname) from pg_collation c join pg_namespace n on n.oid = c.collnamespace
                where c.oid = key_attribute.attcollation and c.collname <> 'default'));
        execute format('comment on table domicile.%I is %L', list, format('The keys of %s that are at home in this region; rows refer to it', rel));
        insert into domicile.mapping values (rel, key_column, region_column, format('domicile.%I', list)::regclass);
    else
        update domicile.mapping m set key_column = set_mapping.key_column, region_column = set_mapping.region_column where m.rel = set_mapping.rel;
    end if;
    perform domicile.accept_mapping(rel);
end
$$;
comment on function domicile.set_mapping(regclass, text, text) is
    'Takes a table as a mapping from a key to regions: by default its primary key, and its column "region" or its only other one';

create function domicile.accept_mapping(rel regclass) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    m domicile.mapping;
    wrong text;
    here text := domicile.must_be_somewhere();
begin
    select * into m from domicile.mapping where mapping.rel = accept_mapping.rel;
    if not found then
        raise undefined_object using message = format('table %s is not a mapping', rel), hint = format('select domicile.set_mapping(%L);', rel);
    end if;
    execute format('select string_agg(coalesce(t.%1$I::text, ''NULL'') || '' to '' || coalesce(t.%2$I::text, ''NULL''), '', '')
        from (select t.* from %3$s t where t.%1$I is null or not exists (select from domicile.region r where r.name = t.%2$I::text) limit 10) t',
        m.key_column, m.region_column, m.rel) into wrong;
    if wrong is not null then
        raise check_violation using message = format('mapping %s names no region of the federation', rel), detail = wrong;
    end if;
    execute format('insert into domicile.mapping_entry select %s, t.%I::text, t.%I::text from %s t
        on conflict on constraint mapping_entry_pkey do update set region = excluded.region where mapping_entry.region <> excluded.region',
        m.rel::oid, m.key_column, m.region_column, m.rel);
    execute format('delete from domicile.mapping_entry e where e.rel = %s and not exists (select from %s t where t.%I::text = e.key)',
        m.rel::oid, m.rel, m.key_column);
    -- Refused by the foreign keys of pinned tables while rows here have the key.
    execute format('delete from %s h where not exists (select from domicile.mapping_entry e where e.rel = %s and e.region = %L and e.key = h.key::text)',
        m.at_home, m.rel::oid, here);
    execute format('insert into %s select t.%I from %s t where t.%I::text = %L on conflict do nothing',
        m.at_home, m.key_column, m.rel, m.region_column, here);
    perform domicile.changed('accept mapping', jsonb_build_object('mapping', rel));
    perform domicile.settle();
    return domicile.version();
end
$$;
comment on function domicile.accept_mapping(regclass) is
    'Takes over what the user''s table says now. Refused for a key that would leave this region while rows have it: move them first';

create function domicile.drop_home_constraint(rel regclass) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
begin
    if exists (select from pg_constraint where conrelid = rel and conname = 'domicile_home') then
        execute format('alter table %s drop constraint domicile_home', rel);
    end if;
end
$$;
comment on function domicile.drop_home_constraint(regclass) is 'Removes a table''s home constraint';

create function domicile.install_home_constraint(rel regclass) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    l domicile.locality;
    here text := domicile.must_be_somewhere();
    c text;
begin
    select * into l from domicile.locality where locality.rel = install_home_constraint.rel;
    perform domicile.drop_home_constraint(rel);
    if l.locality = 'regional' and l.home <> here then
        execute format('alter table %s add constraint domicile_home check (false)', rel);
    elsif l.locality = 'pinned' then
        foreach c in array l.columns loop
            if not (domicile.must_have_column(rel, c)).attnotnull then
                execute format('alter table %s alter column %I set not null', rel, c);
            end if;
        end loop;
        if l.key_kind = 'region' then
            execute format('alter table %s add constraint domicile_home check (%I = %L)', rel, l.columns[1], here);
        elsif l.key_kind = 'id' then
            -- domicile.region_of(id), spelled so that it is immutable and needs no right to a function.
            execute format('alter table %s add constraint domicile_home check ((%I & 1023) = %s)', rel, l.columns[1],
                (select number from domicile.region where name = here));
        elsif l.key_kind = 'mapped' then
            execute format('alter table %s add constraint domicile_home foreign key (%I) references %s (key)', rel, l.columns[1],
                (select at_home from domicile.mapping m where m.rel = l.mapping));
        elsif l.key_kind = 'parent' and not exists (
            select from pg_constraint f where f.conrelid = l.rel and f.confrelid = l.parent and f.contype = 'f' and f.convalidated
            and (select array_agg(a.attname::text order by k.o) from unnest(f.conkey) with ordinality k (n, o)
                join pg_attribute a on a.attrelid = f.conrelid and a.attnum = k.n) = l.columns
        ) then
            execute format('alter table %s add constraint domicile_home foreign key (%s) references %s (%s)', rel,
                (select string_agg(quote_ident(x), ', ' order by o) from unnest(l.columns) with ordinality u (x, o)), l.parent,
                (select string_agg(quote_ident(x), ', ' order by o) from unnest(l.parent_columns) with ordinality u (x, o)));
        end if;
    end if;
end
$$;
comment on function domicile.install_home_constraint(regclass) is 'Adds the constraint domicile_home and checks every row that is here';

create function domicile.set_locality(
    rel regclass, locality text, by text[] default null, mapping regclass default null, parent regclass default null,
    home text default null, move boolean default false, accept text[] default '{}'
) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    here text := domicile.must_be_somewhere();
    class pg_class;
    schema text;
    kind text;
    chosen text[] := by;
    parent_columns text[];
    attribute pg_attribute;
    speaking text;
    homeless text;
    abroad text;
    c text;
begin
    select * into class from pg_class where oid = rel;
    select nspname into schema from pg_namespace where oid = class.relnamespace;
    if locality not in ('pinned', 'global', 'regional', 'local') then
        raise invalid_parameter_value using message = format('locality "%s" is not one', locality), hint = 'pinned, global, regional or local';
    end if;
    if class.relkind not in ('r', 'p') or class.relispartition or class.relpersistence <> 'p'
        or schema ~ '^(pg_catalog|information_schema|domicile|(federated|abroad)(\$.*)?)$' then
        raise wrong_object_type using message = format('%s is not a table that can be managed', rel),
            detail = 'Only permanent tables and the roots of partitioned ones can.';
    end if;
    if not domicile.may_alter(class.relowner) then
        raise insufficient_privilege using
            message = format('Domicile''s owner "%s" has no rights of the owner of table %s', current_user, rel),
            hint = format('grant %I to %I;', pg_get_userbyid(class.relowner), current_user);
    end if;
    perform domicile.border_schema(schema, r.name) from domicile.region r;
    perform domicile.begin_own_commands();

    if locality = 'local' then
        perform domicile.drop_home_constraint(rel);
        delete from domicile.policy p where p.rel = set_locality.rel;
        delete from domicile.locality l where l.rel = set_locality.rel;
        delete from domicile.managed_column m where m.rel = set_locality.rel;
        perform domicile.changed('set locality', jsonb_build_object('table', rel, 'locality', 'local'));
        perform domicile.settle();
        perform domicile.end_own_commands();
        return domicile.version();
    end if;

    if locality = 'regional' then
        home := coalesce(home, here);
        if not exists (select from domicile.region r where r.name = home) then
            raise undefined_object using message = format('region "%s" does not exist', home);
        end if;
    elsif home is not null then
        raise invalid_parameter_value using message = 'only a regional table has one home for all its rows';
    end if;
    if locality = 'pinned' then
        if parent is not null then
            kind := 'parent';
            if not exists (select from domicile.locality l where l.rel = parent and l.locality = 'pinned') then
                raise object_not_in_prerequisite_state using message = format('parent table %s is not pinned', parent),
                    hint = format('Pin %s first.', parent);
            end if;
            select array(select a.attname::text from unnest(f.conkey) with ordinality k (n, o)
                    join pg_attribute a on a.attrelid = f.conrelid and a.attnum = k.n order by k.o),
                array(select a.attname::text from unnest(f.confkey) with ordinality k (n, o)
                    join pg_attribute a on a.attrelid = f.confrelid and a.attnum = k.n order by k.o)
                into chosen, parent_columns
                from pg_constraint f where f.conrelid = rel and f.confrelid = parent and f.contype = 'f'
                and (by is null or by = array(select a.attname::text from unnest(f.conkey) with ordinality k (n, o)
                    join pg_attribute a on a.attrelid = f.conrelid and a.attnum = k.n order by k.o))
                order by f.conname limit 1;
            if not found then
                chosen := by;
                parent_columns := domicile.primary_key(parent);
                if by is null or cardinality(by) <> cardinality(parent_columns) then
                    raise invalid_foreign_key using message = format('table %s has no foreign key to its parent %s', rel, parent),
                        hint = format('Name the columns that refer to the primary key of %s: by => ''{...}''.', parent);
                end if;
            end if;
        elsif by is null or cardinality(by) <> 1 then
            raise invalid_parameter_value using message = format('table %s needs one column as its residency key', rel),
                hint = 'by => ''{country}'', mapping => ''country_region''; or by => ''{region}''; or by => ''{id}''; or parent => ''customers''.';
        else
            attribute := domicile.must_have_column(rel, by[1]);
            if mapping is not null then
                kind := 'mapped';
                if not exists (select from domicile.mapping m where m.rel = set_locality.mapping) then
                    perform domicile.set_mapping(mapping);
                elsif move then
                    -- The mapping may have changed under rows that are here: they are let go, and moved.
                    perform domicile.drop_home_constraint(rel);
                    perform domicile.accept_mapping(mapping);
                end if;
            elsif attribute.atttypid in ('bigint'::regtype, 'integer'::regtype) then
                kind := 'id';
            elsif exists (select from pg_type t where t.oid = attribute.atttypid and t.typcategory in ('S', 'E')) then
                kind := 'region';
            else
                raise wrong_object_type using
                    message = format('column "%s" of table %s is %s and can''t name a region by itself', by[1], rel, format_type(attribute.atttypid, null)),
                    hint = 'Give a mapping.';
            end if;
        end if;
        foreach c in array chosen loop
            perform domicile.must_have_column(rel, c);
        end loop;
    elsif by is not null or mapping is not null or parent is not null then
        raise invalid_parameter_value using message = format('a %s table has no residency key', locality);
    end if;

    select string_agg(format('%s: %s', s.object, s.why), E'\n') into speaking from domicile.speakers(rel) s where s.object <> all (accept);
    if speaking is not null and locality <> 'global' then
        raise object_not_in_prerequisite_state using
            message = format('table %s has constraints or triggers that could speak across the border', rel), detail = speaking,
            hint = 'Accept each by its name: accept => ''{...}''.';
    end if;

    insert into domicile.locality as l values (rel, locality, kind, coalesce(chosen, '{}'), mapping, parent, coalesce(parent_columns, '{}'), home, 'open', accept)
    on conflict on constraint locality_pkey do update set locality = excluded.locality, key_kind = excluded.key_kind, columns = excluded.columns,
        mapping = excluded.mapping, parent = excluded.parent, parent_columns = excluded.parent_columns, home = excluded.home,
        state = 'open', accepted = excluded.accepted;
    perform domicile.remember_columns(rel);

    if locality in ('pinned', 'regional') then
        select string_agg(format('%s rows: %s%s', h.rows, h.problem, ' (' || h.home || ')'), E'\n') into homeless
            from domicile.rows_by_home(rel) h where h.problem is not null;
        if homeless is not null then
            raise check_violation using message = format('table %s has rows without a home', rel), detail = homeless,
                hint = format('Give every row a value in (%s) that leads to a region.', array_to_string(chosen, ', '));
        end if;
        select string_agg(format('%s rows are at home in %s', h.rows, h.home), E'\n') into abroad
            from domicile.rows_by_home(rel) h where h.home <> here;
        if abroad is not null and not move then
            raise check_violation using message = format('table %s has rows whose home is not region "%s"', rel, here), detail = abroad,
                hint = 'move => true pins it nonetheless; nothing is shared until the rows have been moved.';
        elsif abroad is not null then
            raise notice 'table % is being pinned: its rows of other regions must be moved', rel using detail = abroad;
        elsif exists (select from domicile.locality l where l.rel = parent and l.state = 'pinning') then
            abroad := 'none yet, but its parent has';
        end if;
        if abroad is not null then
            update domicile.locality l set state = 'pinning' where l.rel = set_locality.rel;
        end if;
    end if;
    if abroad is null then
        perform domicile.install_home_constraint(rel);
    end if;
    perform domicile.align_ids(rel) where locality = 'pinned';
    perform domicile.changed('set locality', jsonb_build_object('table', rel, 'locality', locality, 'by', chosen, 'mapping', mapping, 'parent', parent,
        'home', home, 'state', case when abroad is null then 'open' else 'pinning' end));
    perform domicile.settle();
    perform domicile.end_own_commands();
    return domicile.version();
end
$$;
comment on function domicile.set_locality(regclass, text, text[], regclass, regclass, text, boolean, text[]) is
    'Says where a table''s rows live: pinned (by a column that names the region, a column and a mapping, an id that carries '
    'its region, or a parent table), global, regional (home => ''eu''), or local (unmanaged). Checks every row. With move => true '
    'a table that holds other regions'' rows is pinned but not shared until domicile.finish_move. Returns the catalog''s version';

create function domicile.finish_move(rel regclass) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    abroad text;
begin
    if not exists (select from domicile.locality l where l.rel = finish_move.rel and l.state = 'pinning') then
        raise object_not_in_prerequisite_state using message = format('table %s is not being moved', rel);
    end if;
    execute format('lock table %s in access exclusive mode', rel);
    select string_agg(format('%s rows: %s', h.rows, coalesce(h.problem, 'at home in ' || h.home)), E'\n') into abroad
        from domicile.rows_by_home(rel) h where h.home is distinct from domicile.here();
    if abroad is not null then
        raise check_violation using message = format('table %s still has rows that are not at home here', rel), detail = abroad;
    end if;
    perform domicile.begin_own_commands();
    perform domicile.install_home_constraint(rel);
    update domicile.locality l set state = 'open' where l.rel = finish_move.rel;
    perform domicile.changed('finish move', jsonb_build_object('table', rel));
    perform domicile.settle();
    perform domicile.end_own_commands();
    return domicile.version();
end
$$;
comment on function domicile.finish_move(regclass) is 'Checks that all rows of other regions are gone, adds the home constraint and opens the table';

-- 34_policies.sql ------------------------------------------------------------------------------------------

-- Policies: what of a managed table may be seen in other regions.

create function domicile.policy_level(p domicile.policy) returns integer
language sql immutable set search_path = pg_catalog, pg_temp
return case when ($1).roles is not null then 10 else 0 end
    + case when ($1).regions is not null then 3 when ($1).jurisdictions is not null then 2 else 1 end;
comment on function domicile.policy_level(domicile.policy) is 'How specific a policy is: roles outweigh regions, regions jurisdictions, jurisdictions all';

create function domicile.policy_for(rel regclass, region text, role text default null) returns domicile.policy
language sql stable set search_path = pg_catalog, pg_temp
as $$
    select p from domicile.policy p join domicile.region r on r.name = $2
    where p.rel = $1 and (p.regions is null or r.name = any (p.regions))
    and (p.jurisdictions is null or r.jurisdiction = any (p.jurisdictions))
    and (p.roles is null or $3 = any (p.roles))
    order by domicile.policy_level(p) desc limit 1
$$;
comment on function domicile.policy_for(regclass, text, text) is
    'The policy by which a role of a region sees a table; without a role, the one for roles that no policy names (and for copies)';

create function domicile.check_policy(p domicile.policy) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    l domicile.locality;
    c text;
    expression text;
    guess record;
    other domicile.policy;
    speaking text;
begin
    select * into l from domicile.locality where locality.rel = p.rel;
    if not found or l.locality = 'global' then
        raise object_not_in_prerequisite_state using
            message = format('table %s is not pinned or regional, so no policy can be written for it', p.rel),
            hint = format('select domicile.set_locality(%L, ''pinned'', ...);', p.rel);
    end if;
    if p.name !~ '^[^[:cntrl:]]{1,63}$' then
        raise invalid_name using message = 'a policy needs a name';
    end if;
    if p.regions is not null and p.jurisdictions is not null then
        raise invalid_parameter_value using message = 'a policy names regions or jurisdictions, not both', hint = 'Write two policies.';
    end if;
    foreach c in array coalesce(p.regions, '{}') loop
        if not exists (select from domicile.region r where r.name = c) then
            raise undefined_object using message = format('region "%s" does not exist', c);
        end if;
    end loop;
    foreach c in array coalesce(p.jurisdictions, '{}') loop
        if not exists (select from domicile.region r where r.jurisdiction = c) then
            raise undefined_object using message = format('no region stands under jurisdiction "%s"', c),
                hint = (select format('There are: %s.', string_agg(distinct jurisdiction, ', ')) from domicile.region);
        end if;
    end loop;
    perform domicile.foreign_name(role, r.name) from unnest(p.roles) role, domicile.region r;
    foreach c in array p.clear loop
        perform domicile.must_have_column(p.rel, c);
        if p.masks ? c then
            raise invalid_parameter_value using message = format('column "%s" of table %s is both clear and masked', c, p.rel);
        end if;
    end loop;
    if jsonb_typeof(p.masks) <> 'object' or jsonb_typeof(p.options) <> 'object' then
        raise invalid_parameter_value using message = 'masks and options are JSON objects', hint = '{"email": "domicile.pseudonym(email)"}';
    end if;
    for c, expression in select * from jsonb_each_text(p.masks) loop
        perform domicile.must_have_column(p.rel, c);
        perform domicile.check_mask(p.rel, c, expression, p.clear);
    end loop;
    if p.rows is not null then
        perform domicile.check_rows(p.rel, p.rows);
    end if;
    for c in select k from jsonb_object_keys(p.options) k where k <> all ('{copy,reads,max_staleness,insert}') loop
        raise invalid_parameter_value using message = format('a policy has no option "%s"', c), hint = 'copy, reads, max_staleness, insert';
    end loop;
    if jsonb_typeof(p.options -> 'copy') <> 'boolean' then
        raise invalid_parameter_value using message = 'option copy is true or false';
    end if;
    if p.options ->> 'reads' not in ('fresh', 'near') then
        raise invalid_parameter_value using message = format('option reads is "%s"', p.options ->> 'reads'), hint = 'fresh or near';
    end if;
    begin
        if (p.options ->> 'max_staleness')::interval < '0' then
            raise invalid_datetime_format;
        end if;
    exception when data_exception then
        raise invalid_parameter_value using message = format('option max_staleness is "%s"', p.options ->> 'max_staleness'), hint = 'An interval, such as 1s.';
    end;
    if jsonb_typeof(p.options -> 'insert') = 'array' then
        for c in select jsonb_array_elements_text(p.options -> 'insert') loop
            perform domicile.must_have_column(p.rel, c);
        end loop;
    elsif jsonb_typeof(p.options -> 'insert') <> 'boolean' then
        raise invalid_parameter_value using message = 'option insert is true, false or a list of columns';
    end if;
    if p.options -> 'insert' is not null and p.options -> 'insert' <> 'false' then
        for guess in select g.column_name, g.index from domicile.guessable(p.rel) g
            where p.masks ? g.column_name and (p.options -> 'insert' = 'true' or p.options -> 'insert' ? g.column_name)
        loop
            raise object_not_in_prerequisite_state using
                message = format('masked column "%s" of table %s can''t be inserted from abroad', guess.column_name, p.rel),
                detail = format('Constraint or index "%s" would refuse a value that a row has, and so tell who tries which values there are.', guess.index),
                hint = format('Name the columns in option insert without it, or accept this: domicile.set_locality(..., accept => ''{%s}'').', guess.index);
        end loop;
    end if;
    if p.options @> '{"copy": true}' and p.roles is not null then
        raise invalid_parameter_value using message = 'a policy for roles can''t make copies', hint = 'A copy is for a whole region.';
    end if;
    -- Two policies that fit the same region and role and are equally specific: which one wins would be chance.
    for other in
        select q.* from domicile.policy q where q.rel = p.rel and q.name <> p.name
        and domicile.policy_level(q) = domicile.policy_level(p)
        and (q.roles is null or q.roles && p.roles) and (q.regions is null or q.regions && p.regions)
        and (q.jurisdictions is null or q.jurisdictions && p.jurisdictions)
    loop
        raise duplicate_object using
            message = format('policies "%s" and "%s" of table %s are equally specific for the same region', p.name, other.name, p.rel),
            hint = 'Alter one of them, or name regions or roles in one.';
    end loop;
    select string_agg(format('%s: %s', s.object, s.why), E'\n') into speaking from domicile.speakers(p.rel) s where s.object <> all (l.accepted);
    if speaking is not null then
        raise object_not_in_prerequisite_state using
            message = format('table %s has constraints or triggers that could speak across the border', p.rel), detail = speaking,
            hint = 'Accept each by its name in domicile.set_locality(..., accept => ''{...}'').';
    end if;
end
$$;
comment on function domicile.check_policy(domicile.policy) is 'Raises where a policy can''t be: with the table, the column and the way out';

create function domicile.notice_guessing(p domicile.policy) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    columns text := (select string_agg(quote_ident(j.key), ', ' order by j.key) from jsonb_each_text(p.masks) j
        where j.value ~* '\mpseudonym\s*\(' and (p.options -> 'insert' = 'true' or p.options -> 'insert' ? j.key));
begin
    if columns is not null then
        raise notice 'who may insert into % from abroad can find rows by guessing values of %', p.rel, columns
            using hint = 'INSERT abroad mirrors INSERT here: grant it to the roles that need it. docs/threats.md, Guessing.';
    end if;
end
$$;
comment on function domicile.notice_guessing(domicile.policy) is
    'Says to whoever makes a policy that option insert, on a column seen as a pseudonym, lets values be tried';

create function domicile.create_policy(
    name text, rel regclass, regions text[] default null, jurisdictions text[] default null, roles text[] default null,
    rows text default null, clear text[] default '{}', masks jsonb default '{}', options jsonb default '{}'
) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    p domicile.policy;
begin
    if exists (select from domicile.policy q where q.rel = rel and q.name = name) then
        raise duplicate_object using message = format('policy "%s" of table %s already exists', name, rel);
    end if;
    p := row(rel, name, regions, jurisdictions, roles, rows, coalesce(clear, '{}'), coalesce(masks, '{}'), coalesce(options, '{}'), 0);
    perform domicile.begin_own_commands();
    perform domicile.check_policy(p);
    p.since := domicile.changed('create policy', to_jsonb(p));
    insert into domicile.policy select (p).*;
    perform domicile.settle();
    perform domicile.must_be_shared(rel);
    perform domicile.end_own_commands();
    perform domicile.notice_guessing(p);
    return p.since;
end
$$;
comment on function domicile.create_policy(text, regclass, text[], text[], text[], text, text[], jsonb, jsonb) is
    'Says what other regions may see of a table: to which regions or jurisdictions (null: all), optionally for which roles; '
    'rows: a condition; clear: columns as they are; masks: column to SQL expression; every other column is withheld. '
    'options: copy, reads (fresh, near), max_staleness, insert (masked columns that may be inserted from abroad). Returns the version';

create function domicile.alter_policy(
    name text, rel regclass, regions text[] default null, jurisdictions text[] default null, roles text[] default null,
    rows text default null, clear text[] default '{}', masks jsonb default '{}', options jsonb default '{}'
) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    p domicile.policy;
begin
    if not exists (select from domicile.policy q where q.rel = rel and q.name = name) then
        raise undefined_object using message = format('policy "%s" of table %s does not exist', name, rel);
    end if;
    p := row(rel, name, regions, jurisdictions, roles, rows, coalesce(clear, '{}'), coalesce(masks, '{}'), coalesce(options, '{}'), 0);
    perform domicile.begin_own_commands();
    perform domicile.check_policy(p);
    p.since := domicile.changed('alter policy', to_jsonb(p));
    delete from domicile.policy q where q.rel = rel and q.name = name;
    insert into domicile.policy select (p).*;
    perform domicile.settle();
    perform domicile.must_be_shared(rel);
    perform domicile.end_own_commands();
    perform domicile.notice_guessing(p);
    return p.since;
end
$$;
comment on function domicile.alter_policy(text, regclass, text[], text[], text[], text, text[], jsonb, jsonb) is
    'Puts a new definition, whole, in the place of a policy''s old one. Where it is refused the old one stands. Returns the version';

create function domicile.drop_policy(name text, rel regclass) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    version bigint;
begin
    delete from domicile.policy q where q.rel = rel and q.name = name;
    if not found then
        raise undefined_object using message = format('policy "%s" of table %s does not exist', name, rel);
    end if;
    version := domicile.changed('drop policy', jsonb_build_object('table', rel, 'policy', name));
    perform domicile.settle();
    return version;
end
$$;
comment on function domicile.drop_policy(text, regclass) is 'Drops a policy; what no other policy shows is withheld from then on. Returns the version';

-- 36_expressions.sql ------------------------------------------------------------------------------------------

-- What a policy makes of a column: one SQL expression, the same in the live view, the snapshot and the stream.

create function domicile.collate_clause(a pg_catalog.pg_attribute) returns text
language sql stable set search_path = pg_catalog, pg_temp
return coalesce((
    select format(' collate %I.%I', n.nspname, c.collname)
    from pg_collation c join pg_namespace n on n.oid = c.collnamespace join pg_type t on t.oid = ($1).atttypid
    where c.oid = ($1).attcollation and c.oid <> t.typcollation
), '');

create function domicile.typed_null(a pg_catalog.pg_attribute) returns text
language sql stable set search_path = pg_catalog, pg_temp
return (
    with recursive base (oid, not_null) as (
        select t.oid, t.typnotnull from pg_type t where t.oid = ($1).atttypid
        union all select t.oid, t.typnotnull from base b join pg_type d on d.oid = b.oid and d.typtype = 'd' join pg_type t on t.oid = d.typbasetype
    )
    select case
        -- A domain that is NOT NULL has no NULL to cast, but a subquery without rows gives one.
        when bool_or(not_null) then format('(select v.n::%s from (values (null::text)) v (n) where false)', format_type(($1).atttypid, ($1).atttypmod))
        else format('null::%s', format_type(($1).atttypid, ($1).atttypmod)) end
        || domicile.collate_clause($1)
    from base
);

create table domicile.compiled_expression (
    rel oid,
    column_name text,
    expression text,
    shape text not null,
    compiled text not null,
    primary key (rel, column_name, expression)
);
comment on table domicile.compiled_expression is
    'Masks and ROWS (column_name empty) as they stand in views, so that settle() need not analyse them again while the table''s shape is the same';

create function domicile.shape(rel regclass) returns text
language sql stable set search_path = pg_catalog, pg_temp
return md5(concat_ws('|',
    (select string_agg(concat_ws(' ', a.attnum, a.attname, a.atttypid, a.atttypmod, a.attcollation), ',' order by a.attnum)
        from pg_attribute a where a.attrelid = $1 and a.attnum > 0 and not a.attisdropped),
    -- A mask's key is by default that of the column which a foreign key refers to, and is refused where it could collide.
    (select string_agg(concat_ws(' ', k.contype, k.conkey, k.confrelid, k.confkey), ',' order by k.oid)
        from pg_constraint k where (k.conrelid = $1 or k.confrelid = $1) and k.contype in ('p', 'u', 'x', 'f'))
));
comment on function domicile.shape(regclass) is 'What of a table a compiled expression depends on, in short';

create function domicile.compiled(rel regclass, column_name text, expression text) returns text
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    shape text := domicile.shape(rel);
    result text;
begin
    select e.compiled into result from domicile.compiled_expression e
        where e.rel = rel and e.column_name = coalesce(column_name, '') and e.expression = expression and e.shape = shape;
    if not found then
        result := case when column_name is null then domicile.wrap_rows(rel, expression) else domicile.wrap_mask(rel, column_name, expression) end;
        insert into domicile.compiled_expression values (rel, coalesce(column_name, ''), expression, shape, result)
            on conflict on constraint compiled_expression_pkey do update set shape = excluded.shape, compiled = excluded.compiled;
    end if;
    return result;
end
$$;
comment on function domicile.compiled(regclass, text, text) is 'domicile.wrap_mask, or domicile.wrap_rows without a column, remembered while the table keeps its shape';

create function domicile.row_expression(p domicile.policy) returns text
language sql set search_path = pg_catalog, pg_temp
as $$ select case when ($1).rows is null then 'true' else domicile.compiled(($1).rel, null, ($1).rows) end $$;
comment on function domicile.row_expression(domicile.policy) is 'The condition on rows of a policy, over a row t; true where it has none';

create function domicile.forget_unused() returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    delete from domicile.compiled_expression e where not exists (
        select from domicile.policy p where p.rel = e.rel and (e.column_name = '' and p.rows = e.expression or p.masks ->> e.column_name = e.expression)
    );
    perform domicile.drop_unused_mask_wrappers();
    delete from domicile.compiled_expression e
        where e.compiled ~ 'domicile\.mask_[0-9a-f]{20}\(' and not exists (
            select from domicile.mask_wrapper w where position('domicile.' || w.name || '(' in e.compiled) > 0);
end
$$;
comment on function domicile.forget_unused() is 'Drops what was compiled for policies that are no more';

create function domicile.column_expression(p domicile.policy, a pg_catalog.pg_attribute) returns text
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    return case
        when a.attname = any (p.clear) then format('t.%I', a.attname)
        when p.masks ? a.attname::text then
            domicile.compiled(a.attrelid, a.attname::text, p.masks ->> a.attname::text)
        else domicile.typed_null(a)
    end;
end
$$;
comment on function domicile.column_expression(domicile.policy, pg_catalog.pg_attribute) is
    'What stands for a column under a policy (none: withheld), over a row t: the column, its mask, or NULL of its type';
comment on function domicile.typed_null(pg_catalog.pg_attribute) is 'NULL of a column''s type and collation, also where its domain forbids NULL';
comment on function domicile.collate_clause(pg_catalog.pg_attribute) is 'The COLLATE clause that gives an expression its column''s collation; empty where the type''s own does';

create function domicile.shared_columns(rel regclass) returns setof pg_catalog.pg_attribute
language sql stable set search_path = pg_catalog, pg_temp
as $$ select a from pg_attribute a where a.attrelid = $1 and a.attnum > 0 and not a.attisdropped order by a.attnum $$;
comment on function domicile.shared_columns(regclass) is 'A table''s columns in catalog order, dropped ones left out';

create function domicile.copy_source(rel regclass, region text)
returns table (select_list text, rows text, columns text[], policy text, since bigint)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    p domicile.policy := domicile.policy_for(rel, region);
begin
    if p.options @> '{"copy": true}' and region <> domicile.here()
        and exists (select from domicile.locality l where l.rel = rel and l.locality in ('pinned', 'regional') and l.state = 'open') then
        return query
            select string_agg(format('%s as %I', domicile.column_expression(p, a), a.attname), ', ' order by a.attnum),
                domicile.row_expression(p), array_agg(a.attname::text order by a.attnum), p.name, p.since
            from domicile.shared_columns(rel) a;
    end if;
end
$$;
comment on function domicile.copy_source(regclass, text) is
    'How rows of a table are made fit for a region''s copy: select <select_list> from <table, or unnest($1::schema.table[])> as t '
    'where <rows>. Every column in catalog order, withheld ones NULL. No row where no policy lets that region have a copy';

-- 40_border_views.sql ------------------------------------------------------------------------------------------

-- The views of the to_... schemas: all that a region may see of this one.
--
-- A policy without ROWS makes a plain view: it hides nothing but masks, and keeps every plan of the table. One with ROWS
-- makes a security_barrier view with a cascaded check option. Columns that are clear for all stay plain references, so
-- PostgreSQL itself lets them be written through the view and refuses every other.

create function domicile.border_view_definition(
    rel regclass, region text, out definition text, out writable text[], out insertable text[], out roles text[], out everyone boolean,
    out by_trigger boolean
)
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    base domicile.policy := domicile.policy_for(rel, region);
    special domicile.policy;
    role text;
    names text[];
    a pg_attribute;
    expression text;
    special_expression text;
    cases text;
    list text[] := '{}';
    predicate text;
    row_cases text;
    barrier boolean;
    inserts jsonb := '[]';
begin
    if exists (select from domicile.locality l where l.rel = rel and l.locality = 'global') then
        -- The other region holds the same rows itself; here they are joined with what lives here. Nobody writes them so.
        select format('create view %I.%I (%s) as select %s from %s t', domicile.border_schema(n.nspname::text, region), c.relname,
                string_agg(quote_ident(s.attname), ', ' order by s.attnum), string_agg(format('t.%I', s.attname), ', ' order by s.attnum), rel),
            '{}'::text[], '{}'::text[], '{}'::text[], true
            into definition, writable, insertable, roles, everyone
            from pg_class c join pg_namespace n on n.oid = c.relnamespace cross join domicile.shared_columns(rel) s
            where c.oid = rel group by n.nspname, c.relname;
        by_trigger := false;
        return;
    end if;
    names := array(select distinct r from domicile.policy p, unnest(p.roles) r
        where p.rel = rel and (domicile.policy_for(rel, region, r)).roles is not null order by 1);
    everyone := base.name is not null;
    roles := names;
    if not everyone then
        if cardinality(names) = 0 then
            return;
        end if;
        -- Only the roles that a policy names get grants, so any of their policies may stand for ELSE.
        base := domicile.policy_for(rel, region, names[1]);
    end if;
    writable := '{}';
    insertable := '{}';
    for a in select * from domicile.shared_columns(rel) loop
        expression := domicile.column_expression(base, a);
        cases := '';
        foreach role in array names loop
            special_expression := domicile.column_expression(domicile.policy_for(rel, region, role), a);
            if special_expression <> expression then
                cases := cases || format(' when %L then %s', domicile.foreign_name(role, region), special_expression);
            end if;
        end loop;
        list := list || case when cases <> '' then format('case current_user%s else %s end', cases, expression) else expression end;
        if cases = '' and expression = format('t.%I', a.attname) and a.attgenerated = '' then
            writable := writable || a.attname::text;
        end if;
    end loop;
    insertable := writable;
    if base.options -> 'insert' = 'true' then
        insertable := array(select c.attname::text from domicile.shared_columns(rel) c
            where c.attgenerated = '' and (c.attname = any (base.clear) or base.masks ? c.attname::text) order by c.attnum);
    elsif jsonb_typeof(base.options -> 'insert') = 'array' then
        insertable := array(select c.attname::text from domicile.shared_columns(rel) c
            where c.attgenerated = '' and (c.attname = any (writable) or base.options -> 'insert' ? c.attname::text) order by c.attnum);
    end if;
    row_cases := '';
    predicate := domicile.row_expression(base);
    barrier := base.rows is not null;
    foreach role in array names loop
        special := domicile.policy_for(rel, region, role);
        if special.rows is distinct from base.rows then
            row_cases := row_cases || format(' when %L then (%s)', domicile.foreign_name(role, region), domicile.row_expression(special));
            barrier := true;
        end if;
    end loop;
    if row_cases <> '' then
        predicate := format('case current_user%s else (%s) end', row_cases, predicate);
    end if;
    -- What a role abroad may insert in a masked column it may not find out by trying.
    insertable := array(select i from unnest(insertable) with ordinality u (i, o)
        where i = any (writable) or not exists (select from domicile.guessable(rel) g where g.column_name = i) order by o);
    -- ON CONFLICT on an automatic view works on the table's rows, also on those that ROWS hides: it would update them and
    -- hand them out. Where an INSTEAD OF INSERT trigger stands, PostgreSQL refuses it.
    by_trigger := insertable <> writable or (barrier and cardinality(insertable) > 0);
    definition := format('create view %I.%I (%s)%s as select %s from %s t%s%s',
        domicile.border_schema(n.nspname::text, region), c.relname,
        (select string_agg(quote_ident(s.attname), ', ' order by s.attnum) from domicile.shared_columns(rel) s),
        case when barrier then ' with (security_barrier = true)' else '' end, array_to_string(list, ', '), rel,
        case when barrier then format(' where (%s)', predicate) else '' end,
        case when barrier and cardinality(writable) > 0 then ' with cascaded check option' else '' end)
        from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = rel;
end
$$;
comment on function domicile.border_view_definition(regclass, text) is
    'The CREATE VIEW of what a region may see of a table, the columns that may be assigned and inserted through it, the roles for '
    'which it is (everyone, or only those named), and whether rows are inserted by a trigger. No definition where no policy shares the table';

create function domicile.guessable(rel regclass) returns table (column_name text, index text)
language sql stable set search_path = pg_catalog, pg_temp
as $$
    select a.attname::text, c.relname::text
    from pg_index i join pg_class c on c.oid = i.indexrelid join pg_attribute a on a.attrelid = i.indrelid and a.attnum > 0
    where i.indrelid = $1 and (i.indisunique or i.indisexclusion)
    and (a.attnum = any (i.indkey::smallint[]) or exists (
        select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = i.indexrelid
        and d.refclassid = 'pg_class'::regclass and d.refobjid = $1 and d.refobjsubid = a.attnum))
    and not exists (select from domicile.locality l where l.rel = $1 and c.relname::text = any (l.accepted))
$$;
comment on function domicile.guessable(regclass) is
    'Columns under a unique or exclusion constraint: an insert that it refuses says that a row has that value. So a masked one of '
    'them is not insertable from abroad, unless the constraint was accepted by its name in domicile.set_locality';

create function domicile.is_shared(rel regclass, region text) returns boolean
language sql stable set search_path = pg_catalog, pg_temp
return exists (select from domicile.locality l where l.rel = $1 and l.state = 'open' and l.locality = 'global')
or exists (
    select from domicile.policy p join domicile.region r on r.name = $2 where p.rel = $1
    and (p.regions is null or r.name = any (p.regions)) and (p.jurisdictions is null or r.jurisdiction = any (p.jurisdictions))
) and exists (select from domicile.locality l where l.rel = $1 and l.state = 'open' and l.locality in ('pinned', 'regional'));
comment on function domicile.is_shared(regclass, text) is 'Whether a region may see anything of a table: by a policy, or because the table is global';

create function domicile.key_columns(rel regclass) returns text[]
language sql stable set search_path = pg_catalog, pg_temp
return coalesce((select l.columns from domicile.locality l where l.rel = $1), '{}') || coalesce((
    -- What children refer to as their home is the parent's key as well.
    select array_agg(c) from domicile.locality k, unnest(k.parent_columns) c where k.parent = $1
), '{}');
comment on function domicile.key_columns(regclass) is 'The columns that say where a row lives; never assignable from abroad, for a move is an export in clear';

create function domicile.drop_border_view(view oid, region text) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    patience text := current_setting('lock_timeout');
    held text;
begin
    -- Whoever reads the view abroad must not be able to keep it as it is by keeping a transaction open.
    begin
        perform set_config('lock_timeout', '500ms', true);
        execute format('drop view %s cascade', view::regclass);
        perform set_config('lock_timeout', patience, true);
        return;
    exception when lock_not_available then
        perform domicile.end_foreign_readers(view);
    end;
    begin
        perform set_config('lock_timeout', '2s', true);
        execute format('drop view %s cascade', view::regclass);
        perform set_config('lock_timeout', patience, true);
    exception when lock_not_available then
        select string_agg(distinct quote_literal(x.gid), ', ') into held from pg_locks l
            join pg_locks own on own.virtualtransaction = l.virtualtransaction and own.pid is null and own.locktype = 'transactionid'
            join pg_prepared_xacts x on x.transaction = own.transactionid
            where l.relation = view and l.granted and l.pid is null;
        raise lock_not_available using message = format('region "%s" still reads %s, which is to be dropped', region, view::regclass),
            detail = coalesce('Prepared transactions hold it: ' || held || '.', 'A session of this region holds it.'),
            hint = case when held is not null then 'ROLLBACK PREPARED, as its owner or a superuser, ends each; then try again.' else 'Try again when its transaction has ended.' end;
    end;
end
$$;
comment on function domicile.drop_border_view(oid, text) is
    'Drops a border view. Sessions from abroad that keep it locked longer than half a second are ended; raises where a prepared '
    'transaction or a session of this region keeps it';

create function domicile.end_foreign_readers(view oid) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    r record;
begin
    perform pg_stat_clear_snapshot();
    for r in
        select distinct a.pid, f.name from pg_locks l join pg_stat_activity a on a.pid = l.pid
        join domicile.foreign_role f on f.name = a.usename
        where l.relation = view and l.granted and l.database = (select oid from pg_database where datname = current_database())
    loop
        if not domicile.is_superuser() then
            execute format('grant %I to %I', r.name, current_user);
        end if;
        perform pg_terminate_backend(r.pid, 1000);
        perform domicile.found('a session from abroad that kept a border view from being changed was ended', r.name, true);
    end loop;
end
$$;
comment on function domicile.end_foreign_readers(oid) is 'Ends the sessions of foreign roles that hold a lock on a view';

create function domicile.close_border() returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    v record;
begin
    perform pg_advisory_xact_lock(hashtextextended('domicile.settle', 0));
    for v in select b.destination, b.rel, b.view from domicile.border_view b where exists (select from pg_class where oid = b.view) order by b.rel loop
        perform domicile.drop_border_view(v.view, v.destination);
    end loop;
    delete from domicile.border_view;
    perform domicile.unfederate();
end
$$;
comment on function domicile.close_border() is
    'Drops every border view and federated view; domicile.settle() makes them again. On the managed level, around what their existence would refuse: '
    'begin; select domicile.close_border(); alter table ... alter column ... type ...; select domicile.settle(); commit';

create function domicile.view_digest(view oid) returns text
language sql stable set search_path = pg_catalog, pg_temp
return (
    select md5(concat_ws('|', pg_get_viewdef(c.oid), c.relowner, c.relnamespace, c.relname, c.reloptions,
        (select string_agg(concat_ws(' ', t.tgname, t.tgfoid, t.tgenabled, encode(t.tgargs, 'hex')), ',' order by t.oid) from pg_trigger t where t.tgrelid = c.oid),
        (select string_agg(concat_ws(' ', a.attname, a.atttypid, a.atttypmod, a.attcollation), ',' order by a.attnum)
            from pg_attribute a where a.attrelid = c.oid and a.attnum > 0)))
    from pg_class c where c.oid = $1
);
comment on function domicile.view_digest(oid) is 'What a view is, in short; it changes when the view or the names under it do';

create function domicile.settle_views() returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    s record;
    d record;
    f record;
    kept domicile.border_view;
    view regclass;
    message text;
    detail text;
begin
    for s in
        select distinct domicile.border_schema(n.nspname::text, r.name) as name, r.name as region
        from domicile.region r, domicile.locality l join pg_class c on c.oid = l.rel join pg_namespace n on n.oid = c.relnamespace
        where r.name <> domicile.here() and l.state = 'open' and l.locality in ('pinned', 'regional', 'global')
        union select domicile.border_schema('public', r.name), r.name from domicile.region r where r.name <> domicile.here()
    loop
        if not exists (select from pg_namespace where nspname = s.name) then
            execute format('create schema %I', s.name);
            execute format('alter schema %I owner to domicile_views', s.name);
            execute format('comment on schema %I is %L', s.name, format('Domicile: what region %s may see of this one', s.region));
        elsif (select nspowner from pg_namespace where nspname = s.name) <> 'domicile_views'::regrole then
            perform domicile.found('schema is not Domicile''s, so nothing can be shared by it', s.name, false);
        end if;
    end loop;

    -- What must not be there: views that no policy makes, and anything else in a border schema.
    for s in
        select c.oid, c.relkind, b.destination, b.rel from pg_class c join pg_namespace n on n.oid = c.relnamespace
        left join domicile.border_view b on b.view = c.oid
        where n.nspname ~ '^to_[a-z][a-z0-9_]{0,15}(\$|$)' and n.nspowner = 'domicile_views'::regrole and c.relkind not in ('i', 't', 'c')
        and (b.view is null or b.destination = domicile.here() or not domicile.is_shared(b.rel, b.destination))
    loop
        if s.destination is null then
            perform domicile.found('a relation that Domicile did not make stood in a border schema', s.oid::regclass::text, true);
        end if;
        if s.destination is not null then
            perform domicile.drop_border_view(s.oid, s.destination);
            continue;
        end if;
        execute format('drop %s %s cascade', case s.relkind when 'v' then 'view' when 'm' then 'materialized view' when 'S' then 'sequence'
            when 'f' then 'foreign table' else 'table' end, s.oid::regclass);
    end loop;
    delete from domicile.border_view b where not exists (select from pg_class c where c.oid = b.view);

    for s in
        select l.rel, r.name as region, n.nspname, c.relname from domicile.locality l cross join domicile.region r
        join pg_class c on c.oid = l.rel join pg_namespace n on n.oid = c.relnamespace
        where r.name <> domicile.here() and l.state = 'open' and l.locality in ('pinned', 'regional', 'global') order by 2, 1
    loop
        begin
            select * into d from domicile.border_view_definition(s.rel, s.region);
            if d.definition is null then
                continue;
            end if;
            select * into kept from domicile.border_view b where b.destination = s.region and b.rel = s.rel;
            if found and kept.definition = d.definition and kept.digest = domicile.view_digest(kept.view) then
                continue;
            elsif found then
                if kept.definition = d.definition then
                    perform domicile.found('a border view was changed', kept.view::regclass::text, true);
                end if;
                perform domicile.drop_border_view(kept.view, s.region);
                delete from domicile.border_view b where b.destination = s.region and b.rel = s.rel;
            end if;
            execute d.definition;
            view := format('%I.%I', domicile.border_schema(s.nspname, s.region), s.relname)::regclass;
            execute format('alter view %s owner to domicile_views', view);
            if d.by_trigger then
                perform domicile.make_insertable(s.rel, view, d.insertable, d.writable);
            end if;
            -- Who reads a view is asked for EXECUTE on its functions, and has no USAGE on their schema to call them by name.
            for f in
                select p.oid::regprocedure as signature from pg_rewrite w join pg_depend x on x.classid = 'pg_rewrite'::regclass and x.objid = w.oid
                join pg_proc p on x.refclassid = 'pg_proc'::regclass and p.oid = x.refobjid
                where w.ev_class = view and p.pronamespace = 'domicile'::regnamespace and not has_function_privilege('public', p.oid, 'execute')
            loop
                execute format('grant execute on function %s to public', f.signature);
            end loop;
            insert into domicile.border_view values (s.region, s.rel, view, d.definition, domicile.view_digest(view));
        exception when lock_not_available or deadlock_detected or serialization_failure then
            raise;  -- no fault of the policy's: whoever asked may ask again
        when others then
            -- Fail closed: a policy that can't be compiled any more shares nothing, and says so.
            get stacked diagnostics message = message_text, detail = pg_exception_detail;
            perform domicile.found(format('not shared with region %s: %s%s', s.region, message, coalesce(E'\n' || nullif(detail, ''), '')), s.rel::text, false);
        end;
    end loop;
end
$$;
comment on function domicile.settle_views() is 'Makes the border schemas hold the views that the policies say, and nothing else';

-- 42_foreign_roles.sql ------------------------------------------------------------------------------------------

-- Foreign roles: "alice@eu" is what role alice of region eu is here. Member of nothing, grants on to_eu alone, the mirror
-- of what the role alice of this region may do with the tables themselves.

create function domicile.is_own_role(name text) returns boolean
language sql stable set search_path = pg_catalog, pg_temp
return $1 in ('domicile_views', 'domicile_insert', 'domicile_local', 'domicile_admin', 'domicile_node') or $1 like 'pg\_%'
    or exists (select from domicile.foreign_role f where f.name = $1);
comment on function domicile.is_own_role(text) is 'Whether a role is Domicile''s or PostgreSQL''s, so that none mirrors it';

create function domicile.is_named_abroad(name text) returns boolean
language sql stable set search_path = pg_catalog, pg_temp
return substring($1 from '@([a-z][a-z0-9_]*)$') in (select r.name from domicile.region r);
comment on function domicile.is_named_abroad(text) is 'Whether a role''s name ends with @ and a region: no role of this region, whoever made it';

create function domicile.mirrored_role() returns table (role text)
language sql stable set search_path = pg_catalog, pg_temp
as $$
    select r.rolname::text from pg_roles r
    where r.rolcanlogin and not r.rolsuper and not r.rolbypassrls and not domicile.is_own_role(r.rolname::text)
    and domicile.is_named_abroad(r.rolname::text) is not true
    and exists (
        select from domicile.locality l join pg_class c on c.oid = l.rel
        where has_any_column_privilege(r.oid, l.rel, 'select, insert, update') or has_table_privilege(r.oid, l.rel, 'delete')
    )
$$;
comment on function domicile.mirrored_role() is 'The local roles that log in and have any privilege on a managed table: those that other regions'' guards may ask for';

create function domicile.type_schemas(region text) returns table (schema oid)
language sql stable set search_path = pg_catalog, pg_temp
as $$
    with recursive used (oid) as (
        select a.atttypid from domicile.border_view b join pg_attribute a on a.attrelid = b.view and a.attnum > 0
        where b.destination = $1
        union
        select x from used u join pg_type t on t.oid = u.oid cross join unnest(array[t.typelem, t.typbasetype]) x where x <> 0
    )
    select distinct t.typnamespace from used u join pg_type t on t.oid = u.oid where t.typnamespace <> 'pg_catalog'::regnamespace
$$;
comment on function domicile.type_schemas(text) is
    'Schemas of the types that a region sees. Its roles need them in their search_path: without it citext = finds nothing, in silence';

create function domicile.foreign_search_path(region text) returns text
language sql stable set search_path = pg_catalog, pg_temp
as $$  -- not a SQL-standard body: a regrole constant can't stand in one
    select string_agg(quote_ident(s.name), ', ' order by s.place, s.name) from (
        select domicile.border_schema('public', $1) as name, 1 as place
        union select n.nspname, 2 from pg_namespace n where n.nspowner = 'domicile_views'::regrole and starts_with(n.nspname, 'to_' || $1 || '$')
        union select n.nspname, 3 from domicile.type_schemas($1) t join pg_namespace n on n.oid = t.schema
    ) s
$$;
comment on function domicile.foreign_search_path(text) is 'The search_path of a region''s roles: its border schemas, then the schemas of types';

create function domicile.drop_foreign_role(name text) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
begin
    if exists (select from pg_roles where rolname = name) then
        begin
            if not domicile.is_superuser() then
                execute format('grant %I to %I', name, current_user);
            end if;
            execute format('alter role %I nologin', name);
            execute format('drop owned by %I', name);
            perform pg_terminate_backend(pid) from pg_stat_activity where usename = name;
            execute format('drop role %I', name);
        exception when dependent_objects_still_exist or insufficient_privilege or object_in_use then
            perform domicile.found('a foreign role that is not needed any more can''t be dropped: ' || sqlerrm, name, false);
            return;
        end;
    end if;
    delete from domicile.foreign_role f where f.name = drop_foreign_role.name;
end
$$;
comment on function domicile.drop_foreign_role(text) is 'Ends the sessions of a foreign role and drops it';

create function domicile.settle_foreign_roles() returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    w record;
    present pg_roles;
    extra record;
    path text;
    limit_ integer := coalesce((select value from domicile.setting where name = 'foreign_connection_limit'), '100')::int;
    super boolean := domicile.is_superuser();
    wrong text;
    kept text;
    renew boolean;
begin
    for w in
        select f.name from domicile.foreign_role f where not exists (
            select from domicile.mirrored_role() m, domicile.region g
            where g.name = f.region and g.name <> domicile.here() and m.role = f.role
        )
    loop
        perform domicile.drop_foreign_role(w.name);
    end loop;

    -- Without superuser nobody but the server reads a password, so they are put back every ten minutes instead.
    renew := not super and coalesce(domicile.remembered('passwords renewed'), '-infinity')::timestamptz
        < now() - interval '10 minutes';
    for w in
        select m.role, g.name as region, m.role || '@' || g.name as name
        from domicile.mirrored_role() m, domicile.region g where g.name <> domicile.here() order by 2, 1
    loop
        if octet_length(w.name) > 63 then
            perform domicile.found(format('role has no name in region %s: over 63 bytes', w.region), w.role, false);
            continue;
        end if;
        path := domicile.foreign_search_path(w.region);
        select * into present from pg_roles where rolname = w.name;
        if not found then
            execute format('create role %I login noinherit connection limit %s password %L', w.name, limit_, domicile.foreign_verifier(w.name));
            execute format('comment on role %I is %L', w.name, format('Domicile: role %s of region %s, as it is here', w.role, w.region));
            insert into domicile.foreign_role values (w.name, w.role, w.region)
                on conflict on constraint foreign_role_pkey do nothing;
            -- The agent ends what a dead coordinator left in doubt: COMMIT PREPARED is the owner's alone.
            if current_setting('server_version_num')::int >= 160000 then
                execute format('grant %I to domicile_node with inherit false, set true', w.name);
            else
                execute format('grant %I to domicile_node', w.name);
            end if;
        elsif not exists (select from domicile.foreign_role f where f.name = w.name) then
            perform domicile.found('a role of this name exists and is not Domicile''s', w.name, false);
            continue;
        else
            wrong := concat_ws(' ', case when not present.rolcanlogin then 'login' end, case when present.rolinherit then 'noinherit' end,
                case when present.rolsuper then 'nosuperuser' end, case when present.rolcreaterole then 'nocreaterole' end,
                case when present.rolcreatedb then 'nocreatedb' end, case when present.rolreplication then 'noreplication' end,
                case when present.rolbypassrls then 'nobypassrls' end, case when present.rolvaliduntil < 'infinity' then 'valid until ''infinity''' end,
                case when present.rolconnlimit <> limit_ then format('connection limit %s', limit_) end);
            if wrong <> '' then
                execute format('alter role %I %s', w.name, wrong);
                perform domicile.found('attributes put back: ' || wrong, w.name, true);
            end if;
            if super then
                execute 'select rolpassword from pg_authid where rolname = $1' into kept using w.name;
                if kept is distinct from domicile.foreign_verifier(w.name) then
                    execute format('alter role %I password %L', w.name, domicile.foreign_verifier(w.name));
                    perform domicile.found('password put back', w.name, true);
                end if;
            elsif renew then
                execute format('alter role %I password %L', w.name, domicile.foreign_verifier(w.name));
            end if;
        end if;
        select * into present from pg_roles where rolname = w.name;
        -- By name: what PUBLIC has the wall takes away.
        if not exists (select from pg_database d cross join lateral aclexplode(d.datacl) a
            where d.datname = current_database() and a.grantee = present.oid and a.privilege_type = 'CONNECT') then
            execute format('grant connect on database %I to %I', current_database(), w.name);
        end if;
        for extra in select s.setdatabase, d.datname from pg_db_role_setting s left join pg_database d on d.oid = s.setdatabase
            where s.setrole = present.oid and (s.setdatabase <> 0 or s.setconfig <> array['search_path=' || path])
        loop
            if extra.setdatabase = 0 then
                execute format('alter role %I reset all', w.name);
            else
                execute format('alter role %I in database %I reset all', w.name, extra.datname);
            end if;
            perform domicile.found('settings put back', w.name, true);
        end loop;
        if not exists (select from pg_db_role_setting s where s.setrole = present.oid and s.setdatabase = 0) then
            execute format('alter role %I set search_path = %s', w.name, path);
        end if;
        for extra in select pg_get_userbyid(a.roleid) as granted, pg_get_userbyid(a.member) as member, pg_get_userbyid(a.grantor) as grantor
            from pg_auth_members a where a.member = present.oid
            or (a.roleid = present.oid and pg_get_userbyid(a.member) not in ('domicile_node', current_user))
        loop
            execute format('revoke %I from %I%s cascade', extra.granted, extra.member,
                case when current_setting('server_version_num')::int >= 160000 then format(' granted by %I', extra.grantor) else '' end);
            perform domicile.found(format('membership %s of %s revoked', extra.member, extra.granted), w.name, true);
        end loop;
    end loop;
    if renew then
        perform domicile.remember('passwords renewed', now()::text);
    end if;
end
$$;
comment on function domicile.settle_foreign_roles() is
    'Makes the roles "role@region" be as they must: a role may change its own password, search_path and settings, so they are put back';

create function domicile.adjust_grants(rel regclass, wanted jsonb, among text[] default null) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    g record;
    done integer := 0;
    kind text := (select case relkind when 'S' then 'sequence ' else 'table ' end from pg_class where oid = rel);
begin
    for g in
        with actual as (
            select a.grantee, a.privilege_type as privilege, null::text as column from pg_class c, aclexplode(c.relacl) a where c.oid = rel
            union all
            select a.grantee, a.privilege_type, t.attname from pg_attribute t, aclexplode(t.attacl) a
            where t.attrelid = rel and t.attnum > 0 and not t.attisdropped
        ), have as (
            select distinct coalesce(r.rolname, 'public')::text as grantee, a.privilege, a.column
            from actual a left join pg_roles r on r.oid = a.grantee
            where a.grantee <> (select relowner from pg_class where oid = rel) and (among is null or r.rolname = any (among))
        ), want as (
            select w.grantee, w.privilege, w.column from jsonb_to_recordset(wanted) w (grantee text, privilege text, "column" text)
        )
        select coalesce(h.grantee, w.grantee) as grantee, coalesce(h.privilege, w.privilege) as privilege,
            coalesce(h.column, w.column) as column, w.grantee is not null as give
        from have h full join want w
            on w.grantee = h.grantee and w.privilege = h.privilege and w.column is not distinct from h.column
        where h.grantee is null or w.grantee is null
        order by 4, 1, 2, 3
    loop
        execute format('%s %s%s on %s%s %s %s', case when g.give then 'grant' else 'revoke' end, g.privilege,
            case when g.column is null then '' else format(' (%I)', g.column) end, kind, rel, case when g.give then 'to' else 'from' end,
            case when g.grantee = 'public' then 'public' else quote_ident(g.grantee) end);
        done := done + 1;
    end loop;
    return done;
end
$$;
comment on function domicile.adjust_grants(regclass, jsonb, text[]) is
    'Gives and takes privileges until those on a relation are the wanted ones ([{"grantee", "privilege", "column"}]), for all or '
    'among some grantees. Returns how many it changed';

create function domicile.settle_grants() returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    shared record;
    def record;
    home_key text[];
    wanted jsonb;
    on_base jsonb;
    insert_base jsonb;
    sequences regclass[];
    each record;
begin
    for shared in select v.rel, array_agg(v.destination order by v.destination) as destinations from domicile.border_view v group by v.rel loop
        home_key := domicile.key_columns(shared.rel);
        on_base := '[]';
        insert_base := '[]';
        for each in select v.destination, v.view from domicile.border_view v where v.rel = shared.rel loop
            select * into def from domicile.border_view_definition(shared.rel, each.destination);
            -- What the view's owner must read is what the view refers to.
            select on_base || coalesce(jsonb_agg(jsonb_build_object('grantee', 'domicile_views', 'privilege', 'SELECT', 'column', a.attname)), '[]')
                into on_base
                from (select distinct x.refobjsubid from pg_rewrite w join pg_depend x on x.classid = 'pg_rewrite'::regclass and x.objid = w.oid
                    where w.ev_class = each.view and x.refclassid = 'pg_class'::regclass and x.refobjid = shared.rel and x.refobjsubid > 0) u
                join pg_attribute a on a.attrelid = shared.rel and a.attnum = u.refobjsubid;
            select coalesce(jsonb_agg(jsonb_build_object('grantee', f.name, 'privilege', p.privilege, 'column', p.column)), '[]') into wanted
            from domicile.foreign_role f join pg_roles r on r.rolname = f.role cross join lateral (
                select 'SELECT' as privilege, null::text as column where has_table_privilege(f.role, shared.rel, 'select')
                union all
                select 'SELECT', c.attname::text from domicile.shared_columns(shared.rel) c
                where not has_table_privilege(f.role, shared.rel, 'select') and has_column_privilege(f.role, shared.rel, c.attnum, 'select')
                union all
                select 'INSERT', c from unnest(def.insertable) c where has_column_privilege(f.role, shared.rel, c, 'insert')
                union all
                select 'UPDATE', c from unnest(def.writable) c where c <> all (home_key) and has_column_privilege(f.role, shared.rel, c, 'update')
                union all
                select 'DELETE', null where has_table_privilege(f.role, shared.rel, 'delete') and cardinality(def.writable) > 0
            ) p
            where f.region = each.destination and (def.everyone or f.role = any (def.roles));
            if domicile.adjust_grants(each.view, wanted) > 0 then
                perform domicile.found('grants on a border view adjusted', each.view::regclass::text, true);
            end if;
            if def.by_trigger then
                -- Rows come in by the trigger, whose owner sees nothing but the key.
                insert_base := insert_base || coalesce((
                    select jsonb_agg(jsonb_build_object('grantee', 'domicile_insert', 'privilege', 'INSERT', 'column', c))
                    from unnest(def.insertable) c), '[]') || coalesce((
                    select jsonb_agg(jsonb_build_object('grantee', 'domicile_insert', 'privilege', 'SELECT', 'column', c))
                    from unnest(domicile.primary_key(shared.rel)) c where c = any (def.writable)), '[]');
            end if;
            on_base := on_base || coalesce((
                select jsonb_agg(jsonb_build_object('grantee', 'domicile_views', 'privilege', w ->> 'privilege', 'column', w ->> 'column'))
                from jsonb_array_elements(wanted) w
                where w ->> 'privilege' in ('UPDATE', 'DELETE') or (w ->> 'privilege' = 'INSERT' and not def.by_trigger)), '[]');
        end loop;
        if domicile.may_alter((select relowner from pg_class where oid = shared.rel)) then
            perform domicile.adjust_grants(shared.rel, (select jsonb_agg(distinct e) from jsonb_array_elements(on_base || insert_base) e),
                '{domicile_views,domicile_insert}');
        end if;
        -- A serial's default asks whoever inserts for the sequence; an identity does not.
        sequences := array(select distinct domicile.feeding_sequence(shared.rel, a.attname::text) from domicile.shared_columns(shared.rel) a
            where a.atthasdef and a.attidentity = '' and a.attgenerated = '');
        for each in select q from unnest(sequences) q where q is not null loop
            select coalesce(jsonb_agg(distinct jsonb_build_object('grantee', f.name, 'privilege', 'USAGE', 'column', null)), '[]') into wanted
                from domicile.foreign_role f join domicile.border_view v on v.destination = f.region and v.rel = shared.rel
                where has_any_column_privilege(f.name, v.view, 'insert');
            if insert_base <> '[]' then
                wanted := wanted || '[{"grantee": "domicile_insert", "privilege": "USAGE", "column": null}]';
            end if;
            if domicile.may_alter((select relowner from pg_class where oid = each.q)) then
                perform domicile.adjust_grants(each.q, wanted, array(select f.name from domicile.foreign_role f) || '{domicile_insert}');
            end if;
        end loop;
    end loop;

    -- Tables that are shared no more.
    for each in select l.rel from domicile.locality l join pg_class c on c.oid = l.rel
        where not exists (select from domicile.border_view b where b.rel = l.rel) and domicile.may_alter(c.relowner)
    loop
        perform domicile.adjust_grants(each.rel, '[]', '{domicile_views,domicile_insert}');
    end loop;

    -- Schemas: each region's roles the schemas of their search_path, nobody else the border schemas.
    for each in
        with want as (
            select n.oid, f.name from domicile.foreign_role f join pg_namespace n on n.nspowner = 'domicile_views'::regrole
                and (n.nspname = 'to_' || f.region or starts_with(n.nspname, 'to_' || f.region || '$'))
            union select t.schema, f.name from domicile.foreign_role f cross join lateral domicile.type_schemas(f.region) t
            union select c.relnamespace, x.name from domicile.border_view b join pg_class c on c.oid = b.rel,
                (values ('domicile_views'), ('domicile_insert')) x (name)
            union select 'domicile'::regnamespace, 'domicile_views'  -- the agent reads masks as this role, by their text
        ), have as (
            select n.oid, r.rolname::text as name from pg_namespace n cross join lateral aclexplode(n.nspacl) a join pg_roles r on r.oid = a.grantee
            where a.privilege_type = 'USAGE' and a.grantee <> n.nspowner and n.nspname not in ('pg_catalog', 'information_schema')
            and (exists (select from domicile.foreign_role f where f.name = r.rolname) or r.rolname in ('domicile_views', 'domicile_insert'))
        )
        select coalesce(h.oid, w.oid)::regnamespace as schema, coalesce(h.name, w.name) as name, w.oid is not null as give
        from have h full join want w on w.oid = h.oid and w.name = h.name where h.oid is null or w.oid is null
    loop
        execute format('%s usage on schema %s %s %I', case when each.give then 'grant' else 'revoke' end, each.schema,
            case when each.give then 'to' else 'from' end, each.name);
        if not each.give then
            perform domicile.found(format('USAGE on schema %s revoked', each.schema), each.name, true);
        end if;
    end loop;
end
$$;
comment on function domicile.settle_grants() is 'Makes foreign roles hold the mirror of their local roles'' grants, and the views'' owner what the views need';

-- 44_wall.sql ------------------------------------------------------------------------------------------

-- The wall: what every role has by PUBLIC, a foreign role must not have.
--
-- What PUBLIC loses is granted to domicile_local, of which every role of this region is a member, so that local
-- applications notice nothing. PUBLIC loses: CONNECT and TEMPORARY on every database of the server, USAGE and CREATE on
-- every schema, whatever was granted to it on tables, columns, sequences, large objects and foreign servers, USAGE of
-- procedural languages (DO), EXECUTE on the functions of schemas that foreign roles must see for the sake of a type, and
-- (full level) the functions of pg_catalog that domicile.closable() lists.
--
-- What no privilege closes and the guard must refuse: LISTEN; EXPLAIN ANALYZE ("Rows Removed by Filter"); the statistics
-- counters (pg_stat_user_tables, reltuples, pg_relation_size); the texts of the catalog (names, view and function sources,
-- defaults, CHECK constraints); on the managed level also what belongs to the service: databases of other owners, the
-- functions of closable(), DO.

create function domicile.closable() returns setof regprocedure
language sql stable set search_path = pg_catalog, pg_temp
as $$
    select p.oid::regprocedure from pg_proc p where p.pronamespace = 'pg_catalog'::regnamespace and (
        p.proname ~ '^(lo_(creat|create|open|from_bytea|put|get|unlink|import|export|lseek|lseek64|tell|tell64|truncate|truncate64|close)|loread|lowrite)$'
        or p.proname ~ '^pg_(try_)?advisory_'
        or p.proname in ('pg_notify', 'pg_logical_emit_message', 'pg_export_snapshot')
    )
$$;
comment on function domicile.closable() is
    'Functions of PostgreSQL that every role may call, through which a foreign role could speak, listen, store or block: closed where '
    'Domicile was installed by a superuser, the guard''s to refuse where not';

create function domicile.wall_grantees() returns text[]
language sql stable set search_path = pg_catalog, pg_temp
return array['domicile_local'] || case when current_setting('server_version_num')::int < 160000 then array(
    select r.rolname::text from pg_roles r where not r.rolinherit and not r.rolsuper
    and (not domicile.is_own_role(r.rolname::text) or r.rolname = 'domicile_node') order by 1
) else '{}'::text[] end;
comment on function domicile.wall_grantees() is
    'Who is given what PUBLIC loses. Before PostgreSQL 16 a NOINHERIT role has nothing of its groups, so it is named itself';

create function domicile.settle_local_roles() returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    r record;
    late boolean := current_setting('server_version_num')::int >= 160000;
begin
    for r in
        select m.rolname::text as name from pg_roles m
        where not m.rolsuper and (not domicile.is_own_role(m.rolname::text) or m.rolname in ('domicile_node', 'domicile_admin'))
        and domicile.is_named_abroad(m.rolname::text) is not true
        and not exists (select from pg_auth_members a where a.roleid = 'domicile_local'::regrole and a.member = m.oid)
        and not pg_has_role('domicile_local', m.oid, 'member')
    loop
        execute format('grant domicile_local to %I%s', r.name, case when late then ' with inherit true, set false' else '' end);
    end loop;
    for r in
        select m.rolname::text as name from pg_auth_members a join pg_roles m on m.oid = a.member
        where a.roleid = 'domicile_local'::regrole and exists (select from domicile.foreign_role f where f.name = m.rolname)
    loop
        execute format('revoke domicile_local from %I cascade', r.name);
        perform domicile.found('a foreign role was a member of domicile_local', r.name, true);
    end loop;
end
$$;
comment on function domicile.settle_local_roles() is 'Makes every role of this region a member of domicile_local, and no other';

create function domicile.settle_wall() returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    p record;
    grantees text := (select string_agg(quote_ident(g), ', ') from unnest(domicile.wall_grantees()) g);
    super boolean := domicile.is_superuser();
    opened oid[] := array(select t.schema from domicile.region r cross join lateral domicile.type_schemas(r.name) t);
begin
    for p in
        select format('database %I', d.datname) as object, a.privilege_type as privilege, true as give
        from pg_database d cross join lateral aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a
        where a.grantee = 0 and (d.datallowconn or d.datname = current_database()) and domicile.may_alter(d.datdba)
        union all
        select format('schema %I', n.nspname), a.privilege_type, true
        from pg_namespace n cross join lateral aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) a
        where a.grantee = 0 and n.nspname not in ('pg_catalog', 'information_schema') and n.nspname !~ '^pg_(toast|temp)'
        and domicile.may_alter(n.nspowner)
        union all
        select format('%s %s', case c.relkind when 'S' then 'sequence' else 'table' end, c.oid::regclass), a.privilege_type, true
        from pg_class c cross join lateral aclexplode(c.relacl) a
        where c.relacl is not null and a.grantee = 0 and c.relnamespace not in ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
        and domicile.may_alter(c.relowner)
        union all
        select format('table %s', t.attrelid::regclass), format('%s (%I)', a.privilege_type, t.attname), true
        from pg_attribute t cross join lateral aclexplode(t.attacl) a join pg_class c on c.oid = t.attrelid
        where t.attacl is not null and a.grantee = 0 and not t.attisdropped and c.relnamespace not in ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
        and domicile.may_alter(c.relowner)
        union all
        select format('routine %s', f.oid::regprocedure), 'EXECUTE', true
        from pg_proc f cross join lateral aclexplode(coalesce(f.proacl, acldefault('f', f.proowner))) a
        where f.pronamespace = any (opened) and a.grantee = 0 and domicile.may_alter(f.proowner)
        and not exists (select from domicile.functions_of_types() x where x.function = f.oid)
        union all
        select format('function %s', c), 'EXECUTE', true
        from domicile.closable() c where super and has_function_privilege('public', c, 'execute')
        union all
        select format('language %I', l.lanname), 'USAGE', true
        from pg_language l cross join lateral aclexplode(coalesce(l.lanacl, acldefault('l', l.lanowner))) a
        where a.grantee = 0 and l.laninline <> 0 and l.lanpltrusted and super
        union all
        select format('large object %s', m.oid), a.privilege_type, true
        from pg_largeobject_metadata m cross join lateral aclexplode(m.lomacl) a where a.grantee = 0 and domicile.may_alter(m.lomowner)
        union all
        select format('foreign server %I', s.srvname), 'USAGE', true
        from pg_foreign_server s cross join lateral aclexplode(s.srvacl) a where a.grantee = 0 and domicile.may_alter(s.srvowner)
        union all
        select format('foreign data wrapper %I', w.fdwname), 'USAGE', true
        from pg_foreign_data_wrapper w cross join lateral aclexplode(w.fdwacl) a where a.grantee = 0 and super
    loop
        execute format('grant %s on %s to %s', p.privilege, p.object, grantees);
        execute format('revoke %s on %s from public cascade', p.privilege, p.object);
        perform domicile.found(format('%s taken from PUBLIC and given to domicile_local', p.privilege), p.object, true);
    end loop;

    -- What somebody granted to a foreign role by name, outside its border schema.
    for p in
        select format('%s %s', case c.relkind when 'S' then 'sequence' else 'table' end, c.oid::regclass) as object, a.privilege_type as privilege, f.name
        from pg_class c cross join lateral aclexplode(c.relacl) a join pg_roles r on r.oid = a.grantee join domicile.foreign_role f on f.name = r.rolname
        where c.relacl is not null and c.relowner <> 'domicile_views'::regrole and domicile.may_alter(c.relowner) and not (c.relkind = 'S' and a.privilege_type = 'USAGE')
        union all
        select format('table %s', t.attrelid::regclass), format('%s (%I)', a.privilege_type, t.attname), f.name
        from pg_attribute t cross join lateral aclexplode(t.attacl) a join pg_class c on c.oid = t.attrelid
        join pg_roles r on r.oid = a.grantee join domicile.foreign_role f on f.name = r.rolname
        where t.attacl is not null and c.relowner <> 'domicile_views'::regrole and domicile.may_alter(c.relowner)
        union all
        select format('routine %s', u.oid::regprocedure), a.privilege_type, f.name
        from pg_proc u cross join lateral aclexplode(u.proacl) a join pg_roles r on r.oid = a.grantee join domicile.foreign_role f on f.name = r.rolname
        where u.proacl is not null and domicile.may_alter(u.proowner) and u.oid <> 'domicile.receive_proposal(jsonb)'::regprocedure
        and not (u.proname = 'propose' and u.pronamespace in (select n.oid from pg_namespace n where n.nspname = 'to_' || f.region))
        union all
        select format('database %I', d.datname), a.privilege_type, f.name
        from pg_database d cross join lateral aclexplode(d.datacl) a join pg_roles r on r.oid = a.grantee join domicile.foreign_role f on f.name = r.rolname
        where domicile.may_alter(d.datdba) and not (d.datname = current_database() and a.privilege_type = 'CONNECT')
    loop
        execute format('revoke %s on %s from %I cascade', p.privilege, p.object, p.name);
        perform domicile.found(format('%s on %s revoked', p.privilege, p.object), p.name, true);
    end loop;
end
$$;
comment on function domicile.settle_wall() is 'Takes from PUBLIC all that would let a foreign role past its border schema, and gives it to domicile_local';

create function domicile.functions_of_types() returns table (function oid)
language sql stable set search_path = pg_catalog, pg_temp
as $$
    -- An operator asks the role that uses it for EXECUTE on its function. So what makes an extension's type a type (its
    -- operators, casts, input and output, index support) stays PUBLIC's.
    select e.objid from pg_depend e where e.classid = 'pg_proc'::regclass and e.deptype = 'e' and (
        exists (select from pg_operator o where o.oprcode = e.objid or o.oprrest = e.objid or o.oprjoin = e.objid)
        or exists (select from pg_cast c where c.castfunc = e.objid)
        or exists (select from pg_amproc m where m.amproc = e.objid)
        or exists (select from pg_type t where e.objid in (t.typinput, t.typoutput, t.typreceive, t.typsend, t.typmodin, t.typmodout))
    )
$$;
comment on function domicile.functions_of_types() is 'The functions of extensions that operators, casts and types consist of';

create function domicile.reach(role text) returns table (kind text, object text, privilege text)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    id oid;
    region text;
begin
    select f.region into region from domicile.foreign_role f where f.name = role;
    select r.oid into id from pg_roles r where r.rolname = role;
    if region is null or id is null then
        raise undefined_object using message = format('"%s" is not a foreign role', role);
    end if;
    return query
    with types as (select t.schema from domicile.type_schemas(region) t),
    border as (
        select n.oid from pg_namespace n where n.nspowner = 'domicile_views'::regrole
        and (n.nspname = 'to_' || region or starts_with(n.nspname, 'to_' || region || '$'))
    ), system as (select n.oid from pg_namespace n where n.nspname in ('pg_catalog', 'information_schema', 'pg_toast')),
    serial as (
        select domicile.feeding_sequence(b.rel, a.attname::text)::oid as oid from domicile.border_view b
        cross join lateral domicile.shared_columns(b.rel) a where b.destination = region and a.atthasdef
    )
    select 'attribute', u.name, 'HAS' from pg_roles r cross join lateral (values
        ('superuser', r.rolsuper), ('createrole', r.rolcreaterole), ('createdb', r.rolcreatedb), ('replication', r.rolreplication),
        ('bypassrls', r.rolbypassrls)) u (name, has) where r.oid = id and u.has
    union all
    select 'membership', pg_get_userbyid(a.roleid)::text, 'MEMBER' from pg_auth_members a where a.member = id
    union all
    select 'membership', pg_get_userbyid(a.member)::text, 'IS A MEMBER OF IT' from pg_auth_members a
    where a.roleid = id and pg_get_userbyid(a.member) not in ('domicile_node', current_user)
    union all
    select 'setting', coalesce(d.datname, '*'), array_to_string(s.setconfig, ', ') from pg_db_role_setting s left join pg_database d on d.oid = s.setdatabase
    where s.setrole = id and (s.setdatabase <> 0 or s.setconfig <> array['search_path=' || domicile.foreign_search_path(region)])
    union all
    select 'database', d.datname::text, p from pg_database d, unnest('{CONNECT,CREATE,TEMPORARY}'::text[]) p
    where d.datallowconn and has_database_privilege(id, d.oid, p) and not (d.datname = current_database() and p = 'CONNECT')
    union all
    select 'schema', n.nspname::text, p from pg_namespace n, unnest('{USAGE,CREATE}'::text[]) p
    where n.nspname !~ '^pg_(toast_)?temp_' and has_schema_privilege(id, n.oid, p)
    and not (p = 'USAGE' and (n.oid in (select oid from border) or n.oid in (select schema from types) or n.oid in (select oid from system)))
    union all
    select 'table', c.oid::regclass::text, p from pg_class c, unnest('{SELECT,INSERT,UPDATE,REFERENCES}'::text[]) p
    where c.relkind in ('r', 'v', 'm', 'f', 'p') and c.relnamespace not in (select oid from system) and c.relnamespace not in (select oid from border)
    and has_any_column_privilege(id, c.oid, p)
    union all
    select 'table', c.oid::regclass::text, p from pg_class c, unnest('{DELETE,TRUNCATE,TRIGGER}'::text[]) p
    where c.relkind in ('r', 'v', 'm', 'f', 'p') and c.relnamespace not in (select oid from system)
    and has_table_privilege(id, c.oid, p) and not (p = 'DELETE' and c.relnamespace in (select oid from border))
    union all
    select 'sequence', c.oid::regclass::text, p from pg_class c, unnest('{USAGE,SELECT,UPDATE}'::text[]) p
    where c.relkind = 'S' and has_sequence_privilege(id, c.oid, p) and not (p = 'USAGE' and c.oid in (select oid from serial))
    union all
    select 'function', f.oid::regprocedure::text, 'EXECUTE' from pg_proc f
    where f.pronamespace not in (select oid from system) and has_schema_privilege(id, f.pronamespace, 'usage') and has_function_privilege(id, f.oid, 'execute')
    and not exists (select from domicile.functions_of_types() x where x.function = f.oid)
    and not (f.proname = 'propose' and f.pronamespace in (select oid from border) and not f.prosecdef)
    union all
    select 'function', c::text, 'EXECUTE' from domicile.closable() c where domicile.is_superuser() and has_function_privilege(id, c, 'execute')
    union all
    select 'language', l.lanname::text, 'USAGE' from pg_language l
    where l.lanpltrusted and l.laninline <> 0 and domicile.is_superuser() and has_language_privilege(id, l.oid, 'usage')
    union all
    select 'large object', m.oid::text, coalesce(a.privilege_type, 'OWNER')
    from pg_largeobject_metadata m left join lateral aclexplode(m.lomacl) a on a.grantee in (0, id) where a.grantee is not null or m.lomowner = id
    union all
    select 'foreign server', s.srvname::text, 'USAGE' from pg_foreign_server s where has_server_privilege(id, s.oid, 'usage')
    union all
    select 'foreign data wrapper', w.fdwname::text, 'USAGE' from pg_foreign_data_wrapper w where has_foreign_data_wrapper_privilege(id, w.oid, 'usage')
    union all
    select 'tablespace', s.spcname::text, 'CREATE' from pg_tablespace s where has_tablespace_privilege(id, s.oid, 'create')
    union all
    select 'parameter', a.parname, p from pg_parameter_acl a, unnest('{SET,ALTER SYSTEM}'::text[]) p where has_parameter_privilege(id, a.parname, p)
    union all
    select 'owner', pg_describe_object(s.classid, s.objid, s.objsubid), 'OWNER' from pg_shdepend s
    where s.refclassid = 'pg_authid'::regclass and s.refobjid = id and s.deptype = 'o'
    and s.dbid in (0, (select oid from pg_database where datname = current_database()))
    order by 1, 2, 3;
end
$$;
comment on function domicile.reach(text) is
    'All that a foreign role reaches outside its border schema: must be empty. Asked of the server itself, object by object, not of '
    'what Domicile granted. Leaves out what no privilege closes: see the comment of domicile.closable() and docs/threats.md';

-- 50_settle.sql ------------------------------------------------------------------------------------------

-- settle(): makes everything that is derived (views, foreign roles, grants, the wall) what the catalog says, and says what
-- it found otherwise. audit(): the same, with the proof by enumeration; the node calls it each second.

create function domicile.found(finding text, object text, repaired boolean) returns void
language sql set search_path = pg_catalog, pg_temp
as $$ insert into domicile.finding (finding, object, repaired) values ($1, $2, $3) $$;
comment on function domicile.found(text, text, boolean) is 'Notes what settle() found';

create function domicile.remember_columns(rel regclass) returns void
language sql set search_path = pg_catalog, pg_temp
as $$
    delete from domicile.managed_column m where m.rel = $1;
    insert into domicile.managed_column select a.attrelid, a.attnum, a.attname from domicile.shared_columns($1) a;
$$;
comment on function domicile.remember_columns(regclass) is 'Notes the names of a table''s columns, by which a rename is seen later';

create function domicile.renamed(expression text, old text, new text) returns text
language plpgsql immutable strict set search_path = pg_catalog, pg_temp set standard_conforming_strings = on
as $$
declare
    rest text := expression;
    result text := '';
    token text;
    before text := '';
begin
    while rest <> '' loop
        token := substring(rest from '^(''(?:[^'']|'''')*''|"(?:[^"]|"")*"|[A-Za-z_\u0080-\uffff][A-Za-z0-9_$\u0080-\uffff]*|::|\s+|.)');
        rest := substr(rest, length(token) + 1);
        if (token = lower(token) and token ~ '^[a-z_\u0080-\uffff]' and token = old or lower(token) = old and token ~ '^[A-Za-z_]'
                or token = '"' || replace(old, '"', '""') || '"')
            and before not in ('.', '::') and rest !~ '^\s*\(' and rest !~ '^\s*''' then
            token := quote_ident(new);
        end if;
        result := result || token;
        if token !~ '^\s+$' then
            before := token;
        end if;
    end loop;
    return result;
end
$$;
comment on function domicile.renamed(text, text, text) is
    'An expression with one column''s name replaced by another; what follows a dot or :: and what is called is no column';

create function domicile.follow_changes() returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    gone record;
    r record;
begin
    for gone in select l.rel::oid as id from domicile.locality l where not exists (select from pg_class c where c.oid = l.rel) loop
        delete from domicile.policy p where p.rel = gone.id::regclass;
        delete from domicile.managed_column m where m.rel = gone.id;
        delete from domicile.border_view b where b.rel = gone.id::regclass;
        delete from domicile.locality l where l.rel = gone.id::regclass;
        perform domicile.changed('table dropped', jsonb_build_object('table', gone.id));
    end loop;
    delete from domicile.mapping m where not exists (select from pg_class c where c.oid = m.rel)
        and not exists (select from domicile.locality l where l.mapping = m.rel);

    -- A dropped column's name is struck from what lets it cross: whatever has that name later is another column.
    for r in
        select m.rel::regclass as rel, m.name from domicile.managed_column m where not exists (
            select from pg_attribute a where a.attrelid = m.rel and a.attnum = m.attnum and not a.attisdropped)
    loop
        update domicile.policy p set clear = array_remove(p.clear, r.name), masks = p.masks - r.name,
            options = case when jsonb_typeof(p.options -> 'insert') = 'array'
                then jsonb_set(p.options, '{insert}', (p.options -> 'insert') - r.name) else p.options end
            where p.rel = r.rel and (r.name = any (p.clear) or p.masks ? r.name);
        if found then
            perform domicile.changed('column dropped', jsonb_build_object('table', r.rel, 'column', r.name));
        end if;
    end loop;

    -- All renames of a table at once, by way of names that no column has, so that two columns may swap theirs.
    for r in
        select m.rel::regclass as rel, m.name as old, a.attname::text as new, format('domicile renames %s', m.attnum) as between
        from domicile.managed_column m join pg_attribute a on a.attrelid = m.rel and a.attnum = m.attnum and not a.attisdropped
        where a.attname <> m.name
    loop
        perform domicile.rename_column(r.rel, r.old, r.between);
        perform domicile.changed('column renamed', jsonb_build_object('table', r.rel, 'from', r.old, 'to', r.new));
    end loop;
    for r in
        select m.rel::regclass as rel, a.attname::text as new, format('domicile renames %s', m.attnum) as between
        from domicile.managed_column m join pg_attribute a on a.attrelid = m.rel and a.attnum = m.attnum and not a.attisdropped
        where a.attname <> m.name
    loop
        perform domicile.rename_column(r.rel, r.between, r.new);
    end loop;
    perform domicile.remember_columns(l.rel) from domicile.locality l;
end
$$;
comment on function domicile.follow_changes() is 'Carries dropped tables and renamed columns over to localities and policies';

create function domicile.rename_column(rel regclass, old text, new text) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    old_key text := old;
begin
    update domicile.locality l set columns = array_replace(l.columns, old, new) where l.rel = rel;
    update domicile.locality l set parent_columns = array_replace(l.parent_columns, old, new) where l.parent = rel;
    update domicile.mapping m set key_column = case m.key_column when old then new else m.key_column end,
        region_column = case m.region_column when old then new else m.region_column end where m.rel = rel;
    update domicile.policy p set clear = array_replace(p.clear, old, new), rows = domicile.renamed(p.rows, old, new),
        masks = (select coalesce(jsonb_object_agg(case j.key when old then new else j.key end, domicile.renamed(j.value, old, new)), '{}')
            from jsonb_each_text(p.masks) j)
        where p.rel = rel;
end
$$;
comment on function domicile.rename_column(regclass, text, text) is 'Carries a column''s new name into localities, mappings and policies';

create function domicile.fingerprint(out border text, out wall text)
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
    passwords text;
begin
    if domicile.is_superuser() then
        execute 'select md5(string_agg(a.rolname || coalesce(a.rolpassword, ''''), '','' order by a.oid))
            from pg_authid a join domicile.foreign_role f on f.name = a.rolname' into passwords;
    end if;
    border := md5(concat_ws('|', passwords, domicile.version(),
        (select md5(string_agg(c.oid || ':' || c.xmin, ',' order by c.oid)) from pg_class c where c.relpersistence <> 't' and c.oid >= 16384
            and (c.relkind in ('v', 'm') or c.oid in (select l.rel from domicile.locality l))),
        (select md5(string_agg(a.attrelid || ':' || a.attnum || ':' || a.xmin, ',' order by a.attrelid, a.attnum)) from pg_attribute a
            where a.attnum > 0 and a.attrelid in (select l.rel from domicile.locality l union all select b.view from domicile.border_view b)),
        (select md5(string_agg(t.oid || ':' || t.xmin, ',' order by t.oid)) from pg_trigger t
            where t.tgrelid in (select l.rel from domicile.locality l union all select b.view from domicile.border_view b)),
        (select md5(string_agg(k.oid || ':' || k.xmin, ',' order by k.oid)) from pg_constraint k
            where k.conrelid in (select l.rel from domicile.locality l)),
        (select md5(string_agg(i.indexrelid || ':' || i.xmin, ',' order by i.indexrelid)) from pg_index i
            where i.indrelid in (select l.rel from domicile.locality l)),
        (select md5(string_agg(s.seqrelid || ':' || s.xmin || ':' || c.xmin, ',' order by s.seqrelid))
            from pg_sequence s join pg_class c on c.oid = s.seqrelid where s.seqrelid in (
                select d.objid from pg_depend d where d.classid = 'pg_class'::regclass and d.refclassid = 'pg_class'::regclass
                    and d.refobjid in (select l.rel from domicile.locality l)
                union all select d.refobjid from pg_attrdef f join pg_depend d on d.classid = 'pg_attrdef'::regclass and d.objid = f.oid
                    where f.adrelid in (select l.rel from domicile.locality l))),
        (select md5(string_agg(n.oid || ':' || n.xmin, ',' order by n.oid)) from pg_namespace n where n.nspname !~ '^pg_(toast_)?temp_'),
        (select md5(string_agg(r::text, ',' order by r.oid)) from pg_roles r),
        (select md5(string_agg(m.roleid || ':' || m.member || ':' || m.xmin, ',' order by m.roleid, m.member, m.grantor)) from pg_auth_members m),
        (select md5(string_agg(s::text, ',' order by s.setdatabase, s.setrole)) from pg_db_role_setting s)
    ));
    wall := md5(concat_ws('|', border,
        (select md5(string_agg(c.oid || ':' || c.xmin, ',' order by c.oid)) from pg_class c
            where c.relpersistence <> 't' and c.oid >= 16384 and c.relkind in ('r', 'p', 'v', 'm', 'f', 'S')),
        (select md5(string_agg(p.oid || ':' || p.xmin, ',' order by p.oid)) from pg_proc p where p.oid >= 16384 or p.proacl is not null),
        (select md5(string_agg(d.oid || ':' || d.datdba || coalesce(d.datacl::text, ''), ',' order by d.oid)) from pg_database d),
        (select md5(string_agg(l.oid || ':' || l.xmin, ',' order by l.oid)) from pg_language l),
        (select md5(string_agg(l.oid || ':' || l.xmin, ',' order by l.oid)) from pg_largeobject_metadata l where l.lomacl is not null),
        (select md5(string_agg(s.oid || ':' || s.xmin, ',' order by s.oid)) from pg_foreign_server s),
        (select md5(string_agg(p.oid || ':' || p.xmin, ',' order by p.oid)) from pg_parameter_acl p)
    ));
end
$$;
comment on function domicile.fingerprint() is
    'Two texts that change whenever anything changes on which settle() depends: what the border is made of, and that with all else into '
    'which PUBLIC or a foreign role could be let. A few milliseconds, no locks';

create function domicile.remembered(name text) returns text
language sql stable set search_path = pg_catalog, pg_temp
return (select s.value from domicile.setting s where s.name = $1);
comment on function domicile.remembered(text) is 'A setting''s value';

create function domicile.remember(name text, value text) returns void
language sql set search_path = pg_catalog, pg_temp
as $$
    insert into domicile.setting values ($1, $2) on conflict on constraint setting_pkey do update set value = excluded.value
        where setting.value <> excluded.value
$$;
comment on function domicile.remember(text, text) is 'Sets a setting';

create function domicile.settle_token() returns text
language sql stable set search_path = pg_catalog, pg_temp
return (select encode(sha256(s.value || convert_to(pg_current_xact_id()::text, 'UTF8')), 'hex') from domicile.secret s where s.name = 'guard');
comment on function domicile.settle_token() is 'What tells the event triggers that a command is settle()''s own: nobody else can make it';

create function domicile.begin_own_commands() returns void
language sql set search_path = pg_catalog, pg_temp
as $$ select set_config('domicile.settling', domicile.settle_token(), true) $$;
comment on function domicile.begin_own_commands() is 'From here on the event triggers leave this transaction''s commands alone';

create function domicile.end_own_commands() returns void
language sql set search_path = pg_catalog, pg_temp
as $$ select set_config('domicile.settling', '', true) $$;
comment on function domicile.end_own_commands() is 'From here on the event triggers watch again';

create function domicile.must_be_shared(rel regclass) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    why text := (select string_agg(f.finding, E'\n') from domicile.finding f where f.object = rel::text and f.finding like 'not shared with region%');
begin
    if why is not null then
        raise invalid_object_definition using message = format('the policies of table %s can''t be put into views', rel), detail = why;
    end if;
end
$$;
comment on function domicile.must_be_shared(regclass) is 'Raises where settle() could not make a table''s border views: the change is undone, the old policy stands';

create function domicile.settle(force boolean default false) returns table (finding text, object text, repaired boolean)
language plpgsql security definer set search_path = pg_catalog, pg_temp set client_min_messages = warning
as $$
#variable_conflict use_variable
declare
    outer_token text := coalesce(current_setting('domicile.settling', true), '');
    before record;
begin
    if domicile.here() is null then
        return;
    end if;
    select * into before from domicile.fingerprint();
    if force or domicile.remembered('fingerprint of the wall') is distinct from before.wall then
        perform pg_advisory_xact_lock(hashtextextended('domicile.settle', 0));
        select * into before from domicile.fingerprint();  -- whoever held the lock may have done it
    end if;
    if not force and domicile.remembered('fingerprint of the wall') = before.wall then
        return query select f.finding, f.object, f.repaired from domicile.finding f where not f.repaired;
        return;
    end if;
    perform set_config('domicile.settling', domicile.settle_token(), true);
    if force or domicile.remembered('fingerprint of the border') is distinct from before.border then
        delete from domicile.finding;
        perform domicile.follow_changes();
        perform domicile.settle_foreign_roles();
        perform domicile.settle_local_roles();
        perform domicile.settle_views();
        perform domicile.settle_foreign_roles();  -- again: their search_path names the schemas that the views' types need
        perform domicile.settle_wall();
        perform domicile.settle_grants();
        perform domicile.settle_proposals();
        perform domicile.federate();
        perform domicile.forget_unused();
        perform domicile.settle_findings();
        perform domicile.settle_version();
    else
        -- Most of what an application creates has nothing to do with the border; what PUBLIC got by it is looked after.
        delete from domicile.finding f where f.repaired;
        perform domicile.settle_wall();
    end if;
    perform domicile.remember('fingerprint of the border', f.border), domicile.remember('fingerprint of the wall', f.wall) from domicile.fingerprint() f;
    perform set_config('domicile.settling', outer_token, true);
    return query select f.finding, f.object, f.repaired from domicile.finding f order by f.at;
end
$$;
comment on function domicile.settle(boolean) is
    'Makes views, foreign roles, grants and the wall what the catalog says, where anything changed since the last time (or when '
    'forced). Returns what it found otherwise: repaired, or still open';

create function domicile.settle_findings() returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    perform domicile.found(format('could speak across the border and is not accepted: %s', s.why), format('%s on %s', s.object, l.rel), false)
        from domicile.locality l cross join lateral domicile.speakers(l.rel) s where l.locality <> 'global' and s.object <> all (l.accepted);
    perform domicile.found('policy names a column that does not exist', format('%s on %s: %s', p.name, p.rel, c), false)
        from domicile.policy p cross join lateral (select unnest(p.clear) as c union select jsonb_object_keys(p.masks)) n
        where not exists (select from pg_attribute a where a.attrelid = p.rel and a.attname = n.c and not a.attisdropped);
    perform domicile.found('the home constraint is missing', l.rel::text, false)
        from domicile.locality l where l.state = 'open' and (l.locality = 'pinned' and l.key_kind <> 'parent' or l.locality = 'regional' and l.home <> domicile.here())
        and not exists (select from pg_constraint k where k.conrelid = l.rel and k.conname = 'domicile_home' and k.convalidated);
    perform domicile.found('the residency key may be NULL, and a row without one has no home: ALTER COLUMN SET NOT NULL', format('%s.%I', l.rel, a.attname), false)
        from domicile.locality l join pg_attribute a on a.attrelid = l.rel and a.attname = any (l.columns) and not a.attisdropped
        where l.state = 'open' and l.locality = 'pinned' and not a.attnotnull;
    perform domicile.found('a table inherits from it whose rows no home constraint watches, and which are shown with its own', format('%s: %s', l.rel, i.inhrelid::regclass), false)
        from domicile.locality l join pg_inherits i on i.inhparent = l.rel join pg_class c on c.oid = l.rel
        where l.locality in ('pinned', 'regional') and c.relkind = 'r';
    perform domicile.found('a mapping''s table says something else than what was accepted: domicile.accept_mapping', m.rel::text, false)
        from domicile.mapping m where domicile.mapping_differs(m.rel);
end
$$;
comment on function domicile.settle_findings() is 'Notes what is not as it should be and is not Domicile''s to put right';

create function domicile.mapping_differs(rel regclass) returns boolean
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    m domicile.mapping;
    differs boolean;
begin
    select * into m from domicile.mapping g where g.rel = rel;
    execute format('select exists (
        (select t.%1$I::text, t.%2$I::text from %3$s t except select e.key, e.region from domicile.mapping_entry e where e.rel = %4$s)
        union all (select e.key, e.region from domicile.mapping_entry e where e.rel = %4$s except select t.%1$I::text, t.%2$I::text from %3$s t))',
        m.key_column, m.region_column, m.rel, m.rel::oid) into differs;
    return differs;
end
$$;
comment on function domicile.mapping_differs(regclass) is 'Whether a mapping''s table says something else than what was accepted';

create function domicile.settle_version() returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    digest text := md5((domicile.snapshot() - 'version')::text);
begin
    if digest is distinct from domicile.remembered('snapshot') then
        if domicile.version() <= coalesce(domicile.remembered('version of the snapshot')::bigint, 0) then
            perform domicile.changed('schema changed');
        end if;
        perform domicile.remember('snapshot', digest);
    end if;
    perform domicile.remember('version of the snapshot', domicile.version()::text);
end
$$;
comment on function domicile.settle_version() is 'Gives the catalog a new version where the snapshot is not what it was under the last one';

create function domicile.audit() returns table (finding text, object text, repaired boolean)
language plpgsql security definer set search_path = pg_catalog, pg_temp set lock_timeout = '300ms'
as $$
#variable_conflict use_variable
declare
    renew boolean;
begin
    -- Whoever is settling will find it: better to look again in a second than to queue behind a long migration.
    if domicile.here() is null or not pg_try_advisory_xact_lock(hashtextextended('domicile.settle', 0)) then
        return;
    end if;
    renew := not domicile.is_superuser() and coalesce(domicile.remembered('passwords renewed'), '-infinity')::timestamptz
        < now() - interval '10 minutes';
    if not renew and domicile.remembered('fingerprint of the last audit') = (domicile.fingerprint()).wall then
        return query select f.finding, f.object, f.repaired from domicile.finding f where not f.repaired;
        return;
    end if;
    perform domicile.settle(true);
    perform domicile.remember('fingerprint of the last audit', domicile.remembered('fingerprint of the wall'));
    perform domicile.found(format('a foreign role reaches beyond its border schema: %s %s', x.privilege, x.kind), format('%s: %s', f.name, x.object), false)
        from domicile.foreign_role f cross join lateral domicile.reach(f.name) x where exists (select from pg_roles r where r.rolname = f.name);
    return query select f.finding, f.object, f.repaired from domicile.finding f order by f.at;
exception when lock_not_available then
    return;
end
$$;
comment on function domicile.audit() is
    'settle(), and then the proof: for every foreign role all that it reaches beyond its border schema. Where nothing changed since '
    'the last time it only compares fingerprints and returns what is still open. Waits 0.3 s for a lock at most';

-- 60_snapshot.sql ------------------------------------------------------------------------------------------

-- The snapshot: all that a gateway and an agent must know, in one call. sql/README.md is its contract.

create function domicile.federation_keys(rel regclass) returns jsonb
language sql stable set search_path = pg_catalog, pg_temp
return coalesce((
    select jsonb_agg(k.columns order by k.columns) from (
        -- Ids that carry their region, and UUIDs: no two regions make the same one.
        select to_jsonb(pk.key) as columns from (select domicile.primary_key($1) as key) pk
        join pg_attribute a on a.attrelid = $1 and a.attname = pk.key[1] and not a.attisdropped
        where cardinality(pk.key) = 1 and case when a.atttypid = 'uuid'::regtype then true else domicile.aligned_id($1) is not null end
        union
        -- A unique key that holds the residency key: each home has values of its own, and is unique in itself.
        select to_jsonb(array(select b.attname::text from unnest(i.indkey::smallint[]) with ordinality u (n, o)
            join pg_attribute b on b.attrelid = i.indrelid and b.attnum = u.n where u.o <= i.indnkeyatts order by u.o))
        from pg_index i join domicile.locality l on l.rel = i.indrelid
        where i.indrelid = $1 and i.indisunique and i.indisvalid and i.indpred is null and i.indexprs is null and l.locality = 'pinned'
        and cardinality(l.columns) > 0 and l.columns <@ array(select b.attname::text from unnest(i.indkey::smallint[]) with ordinality u (n, o)
            join pg_attribute b on b.attrelid = i.indrelid and b.attnum = u.n where u.o <= i.indnkeyatts)
    ) k
), '[]');
comment on function domicile.federation_keys(regclass) is
    'Column sets that are unique over all regions: a primary key of one column that is a uuid or fed by an aligned sequence, and '
    'unique keys that hold the residency key. What that rests on is said in domicile.align_ids';

create function domicile.snapshot() returns jsonb
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
    select jsonb_build_object(
        'version', domicile.version(),
        'here', domicile.here(),
        'regions', (select coalesce(jsonb_agg(jsonb_build_object('name', r.name, 'number', r.number, 'jurisdiction', r.jurisdiction) order by r.number), '[]')
            from domicile.region r),
        'tables', (
            select coalesce(jsonb_agg(jsonb_build_object(
                'schema', n.nspname, 'name', c.relname, 'oid', c.oid::bigint, 'locality', l.locality,
                'columns', (
                    select coalesce(jsonb_agg(jsonb_build_object(
                        'name', a.attname, 'type_oid', a.atttypid::bigint, 'type', format_type(a.atttypid, a.atttypmod), 'not_null', a.attnotnull,
                        'deterministic', coalesce((select k.collisdeterministic from pg_collation k where k.oid = a.attcollation), true)) order by a.attnum), '[]')
                    from domicile.shared_columns(l.rel) a),
                'primary_key', to_jsonb(domicile.primary_key(l.rel)),
                'key', case when l.key_kind is not null then jsonb_strip_nulls(jsonb_build_object(
                    'kind', l.key_kind, 'columns', to_jsonb(l.columns),
                    'mapping', (select format('%s.%s', mn.nspname, mc.relname) from pg_class mc join pg_namespace mn on mn.oid = mc.relnamespace where mc.oid = l.mapping),
                    'parent', (select jsonb_build_object('schema', pn.nspname, 'name', pc.relname) from pg_class pc join pg_namespace pn on pn.oid = pc.relnamespace where pc.oid = l.parent),
                    'parent_columns', case when l.parent is not null then to_jsonb(l.parent_columns) end)) end,
                'home', l.home,
                'federation_keys', case when l.locality = 'pinned' then domicile.federation_keys(l.rel) else '[]' end,
                'reads_near', (domicile.policy_for(l.rel, domicile.here())).options ->> 'reads' is not distinct from 'near',
                'max_staleness', (domicile.policy_for(l.rel, domicile.here())).options ->> 'max_staleness'
                ) order by n.nspname, c.relname), '[]')
            from domicile.locality l join pg_class c on c.oid = l.rel join pg_namespace n on n.oid = c.relnamespace where l.state = 'open'),
        'mappings', (
            select coalesce(jsonb_object_agg(format('%s.%s', n.nspname, c.relname), (
                select coalesce(jsonb_object_agg(e.key, e.region), '{}') from domicile.mapping_entry e where e.rel = m.rel)), '{}')
            from domicile.mapping m join pg_class c on c.oid = m.rel join pg_namespace n on n.oid = c.relnamespace),
        'opaque', (
            with recursive reads (view, rel) as (
                select w.ev_class, d.refobjid from pg_rewrite w
                join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = w.oid and d.refclassid = 'pg_class'::regclass
                join domicile.locality l on l.rel = d.refobjid and l.locality in ('pinned', 'regional') and l.state = 'open'
                where w.ev_class <> d.refobjid
                union
                select w.ev_class, r.rel from reads r
                join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.refclassid = 'pg_class'::regclass and d.refobjid = r.view
                join pg_rewrite w on w.oid = d.objid where w.ev_class <> r.view
            )
            select coalesce(jsonb_agg(o.item order by o.item), '[]') from (
                select jsonb_build_object('schema', n.nspname, 'name', c.relname, 'reads', jsonb_agg(distinct
                    jsonb_build_object('schema', tn.nspname, 'name', t.relname))) as item
                from reads r join pg_class c on c.oid = r.view join pg_namespace n on n.oid = c.relnamespace
                join pg_class t on t.oid = r.rel join pg_namespace tn on tn.oid = t.relnamespace
                where c.relkind in ('v', 'm') and n.nspname !~ '^(domicile|(federated|abroad)(\$.*)?)$' and n.nspowner <> 'domicile_views'::regrole
                group by n.nspname, c.relname
            ) o)
    )
$$;
comment on function domicile.snapshot() is 'The catalog as one versioned document, for gateways and agents: sql/README.md describes it';

-- 60_stream.sql ------------------------------------------------------------------------------------------

-- The change stream: what this region sends (offers, publications, subscriptions), what it holds of others (schema
-- abroad, progress), and the federated views over both. replication/ is the other half.

create schema abroad;
comment on schema abroad is 'The anonymized rows of other regions, kept here by replication. Read them through the schema federated';
create schema federated;
comment on schema federated is 'A view for each pinned table: the rows at home here in clear, and the copies of other regions'' rows, with their region';
revoke all on schema abroad, federated from public;

-- --- what this region sends ----------------------------------------------------------------------------------------

create table domicile.subscription (
    destination text primary key,
    slot name not null,
    copy text not null,
    fingerprint text not null,
    version bigint not null,
    state text not null check (state in ('copying', 'streaming', 'failed')),
    reason text,
    since timestamptz not null default clock_timestamp()
);
comment on table domicile.subscription is 'The copies that this region feeds in others, one row for each region that takes them';
comment on column domicile.subscription.copy is 'names slot and masks together: a copy made under another can not be gone on from';
comment on column domicile.subscription.fingerprint is 'of the offer (tables, columns, masks, rows) that the copy was made under';
comment on column domicile.subscription.reason is 'why it failed; it is tried again when the region next calls';

create view domicile.sending as
select s.destination, s.state, s.reason, s.version as policy_version, s.since, r.active as connected,
    r.confirmed_flush_lsn as durable_there,
    pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), r.confirmed_flush_lsn)::bigint as lag_bytes,
    pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), r.restart_lsn)::bigint as retained_bytes
from domicile.subscription s left join pg_catalog.pg_replication_slots r on r.slot_name = s.slot;
comment on view domicile.sending is 'For each region that takes copies from here: how far behind it is, and how much WAL is kept for it';

create function domicile.stream_partitions(rel regclass) returns text
language sql stable strict set search_path = pg_catalog, pg_temp
return (
    select string_agg(c.oid || ':' || c.relfilenode, ' ' order by c.oid)
    from pg_partition_tree(rel) p join pg_class c on c.oid = p.relid where p.isleaf and p.relid <> rel
);
comment on function domicile.stream_partitions(regclass) is 'The partitions of a table and their files, by which one that was truncated is seen; NULL for other tables';

create function domicile.stream_offer(destination text) returns jsonb
language sql stable strict security definer set search_path = pg_catalog, pg_temp
as $$
    select jsonb_build_object('version', domicile.version(), 'tables', coalesce(jsonb_agg(t.document order by t.schema, t.name), '[]'))
    from (
        select n.nspname as schema, c.relname as name, jsonb_build_object(
            'schema', n.nspname, 'name', c.relname, 'oid', c.oid::bigint, 'row', y.oid::bigint, 'row_array', y.typarray::bigint,
            'rows', p.rows,
            -- Rows that go with a partition (detached, dropped, truncated by itself) are not in the log: the copy is made anew.
            'partitions', domicile.stream_partitions(c.oid),
            -- Every column of the row type, in its order; `mask` is NULL where it is withheld.
            'columns', (
                select jsonb_agg(jsonb_build_object(
                    'name', a.attname, 'type', format_type(a.atttypid, a.atttypmod), 'type_oid', a.atttypid::bigint,
                    'generated', case when a.attgenerated <> '' then pg_get_expr(d.adbin, d.adrelid) end,
                    'mask', case when a.attname = any (p.clear) or p.masks ? a.attname::text then domicile.column_expression(p, a) end
                ) order by a.attnum)
                from pg_attribute a left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
                where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
            ),
            -- The primary key, where every column of it is sent.
            'key', coalesce((
                select jsonb_agg(a.attname order by k.place)
                from pg_index i cross join unnest(i.indkey) with ordinality k (attnum, place)
                join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
                where i.indrelid = c.oid and i.indisprimary
                having bool_and(a.attname = any (p.clear) or p.masks ? a.attname::text)
            ), '[]')
        ) as document
        from domicile.locality l
        join pg_class c on c.oid = l.rel
        join pg_namespace n on n.oid = c.relnamespace
        join pg_type y on y.oid = c.reltype
        cross join lateral domicile.copy_source(l.rel, $1) s
        cross join lateral domicile.policy_for(l.rel, $1) p
    ) t
$$;
comment on function domicile.stream_offer(text) is
    'What this region''s policies copy to a region: tables, columns, masks and row filters as SQL. For this region''s agent';

create function domicile.stream_slot(destination text) returns name
language sql stable strict set search_path = pg_catalog, pg_temp
return 'domicile_' || domicile.here() || '_to_' || destination;
comment on function domicile.stream_slot(text) is 'The name of the slot, and of the publication, that feed the copies of a region';

create function domicile.stream_publish(destination text) returns void
language plpgsql strict security definer set search_path = pg_catalog, pg_temp
as $$
declare
    name text := domicile.stream_slot(destination);
    one record;
    tables text[] := '{}';
begin
    perform domicile.begin_own_commands();
    for one in
        select p.relid as oid, p.relid::regclass::text as quoted, c.relreplident, p.relid = (t ->> 'oid')::oid as is_root
        from jsonb_array_elements(domicile.stream_offer(destination) -> 'tables') t,
            pg_partition_tree((t ->> 'oid')::oid::regclass) p join pg_class c on c.oid = p.relid
        union all
        select c.oid, c.oid::regclass::text, c.relreplident, true
        from jsonb_array_elements(domicile.stream_offer(destination) -> 'tables') t join pg_class c on c.oid = (t ->> 'oid')::oid
        where not exists (select from pg_partition_tree(c.oid::regclass))
    loop
        -- On 18 and later PostgreSQL would refuse the application's own updates of such a table once it is published.
        if exists (select from pg_attribute a where a.attrelid = one.oid and a.attgenerated = 'v') then
            raise feature_not_supported using
                message = format('table %s is to be copied to region "%s", and has a virtual generated column', one.quoted, destination),
                hint = 'PostgreSQL can''t publish such tables with REPLICA IDENTITY FULL: make the column STORED, or leave the table out of the policy''s copy option.';
        end if;
        if one.is_root then
            tables := tables || one.quoted;
        end if;
        if one.relreplident <> 'f' then
            begin
                execute format('alter table %s replica identity full', one.quoted);
            exception when insufficient_privilege then
                raise insufficient_privilege using
                    message = format('table %s is to be copied to region "%s", and Domicile may not set its replica identity', one.quoted, destination),
                    hint = format('Its owner can: ALTER TABLE %s REPLICA IDENTITY FULL;', one.quoted);
            end;
        end if;
    end loop;
    if exists (select from pg_publication p where p.pubname = name) then
        execute format('drop publication %I', name);
    end if;
    begin
        execute format('create publication %I %s with (publish_via_partition_root = true%s)', name,
            case when tables = '{}' then '' else 'for table ' || array_to_string(tables, ', ') end,
            case when current_setting('server_version_num')::int >= 180000 then ', publish_generated_columns = stored' else '' end);
    exception when insufficient_privilege then
        raise insufficient_privilege using
            message = format('Domicile may not publish one of the tables %s, which are to be copied to region "%s"', array_to_string(tables, ', '), destination),
            hint = 'Make Domicile''s owner a member of the role that owns the table: GRANT <owner> TO <Domicile''s owner>;';
    end;
    perform domicile.end_own_commands();
end
$$;
comment on function domicile.stream_publish(text) is
    'Sets REPLICA IDENTITY FULL on the tables that are copied to a region and publishes them to its slot. For this region''s agent';

create function domicile.stream_unpublish(destination text) returns void
language plpgsql strict security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if exists (select from pg_publication p where p.pubname = domicile.stream_slot(destination)) then
        execute format('drop publication %I', domicile.stream_slot(destination));
    end if;
    delete from domicile.subscription s where s.destination = stream_unpublish.destination;
end
$$;
comment on function domicile.stream_unpublish(text) is 'Forgets the subscription of a region. For this region''s agent, which drops the slot';

create function domicile.stream_beat(token text) returns text
language plpgsql strict security definer set search_path = pg_catalog, pg_temp
as $$
declare
    word text;
begin
    -- The clock is read before the message is written: whatever was visible by then stands before it in the log.
    word := token || ' ' || (extract(epoch from clock_timestamp() - timestamptz '2000-01-01 00:00+00') * 1000000)::bigint;
    if current_setting('server_version_num')::int >= 170000 then
        execute 'select pg_logical_emit_message(false, $1, $2, true)' using 'domicile.beat', word;
    else
        -- Without the argument that flushes, only a commit does.
        perform pg_logical_emit_message(true, 'domicile.beat', word);
    end if;
    return concat_ws(' ', domicile.version(), (
        select md5(string_agg(domicile.stream_partitions(l.rel), ' ' order by l.rel))
        from domicile.locality l join pg_class c on c.oid = l.rel where c.relkind = 'p'
    ));
end
$$;
comment on function domicile.stream_beat(text) is
    'Writes the time into the log, so that idle slots move and copies know how fresh they are. Returns a text that changes whenever '
    'domicile.stream_offer may say something else. For this region''s agent';

-- --- what this region holds of others --------------------------------------------------------------------------------

create table domicile.progress (
    origin text primary key,
    copy text,
    lsn pg_lsn,
    ordinal bigint not null default 0,
    committed_at timestamptz,
    as_of timestamptz,
    applied_at timestamptz,
    state text not null default 'starting' check (state in ('starting', 'copying', 'streaming', 'failed')),
    reason text,
    check ((state = 'streaming') <= (copy is not null and lsn is not null))
);
comment on table domicile.progress is
    'How far the copies of each region are, written in the same transaction as their rows: this is what makes it exactly once';
comment on column domicile.progress.lsn is 'a position in the origin''s log: all that was committed before it is here, nothing after it';
comment on column domicile.progress.ordinal is 'how many transactions of the origin have been applied since the copy was made';
comment on column domicile.progress.committed_at is 'when the last of them was committed, by the origin''s clock';
comment on column domicile.progress.as_of is 'all that was committed before this time, by the origin''s clock, is here';

create table domicile.copied (
    origin text references domicile.progress on delete cascade,
    rel regclass,
    columns text[] not null,
    key text[] not null,
    primary key (origin, rel)
);
comment on table domicile.copied is 'Which tables the copies are of, by the region that they come from: columns sent, and the key by which rows are known';

create view domicile.freshness as
select c.rel as relation, p.origin as region, p.state, p.as_of, clock_timestamp() - p.as_of as age,
    p.lsn, p.ordinal, p.committed_at, p.applied_at, p.reason
from domicile.copied c join domicile.progress p on p.origin = c.origin;
comment on view domicile.freshness is
    'For each copy: what it shows of its home, as of when. A copy that is not streaming is not to be relied on';

create function domicile.copy_schema(prefix text, schema text) returns text
language plpgsql immutable strict set search_path = pg_catalog, pg_temp
as $$
declare
    name text := case when schema = 'public' then prefix else prefix || '$' || schema end;
begin
    if octet_length(name) > 63 then
        raise name_too_long using message = format('schema name "%s" has over 63 bytes', name), hint = 'Give the schema a shorter name.';
    end if;
    return name;
end
$$;
comment on function domicile.copy_schema(text, text) is 'abroad (or federated) for public, abroad$sales for sales';

create function domicile.origin_column(rel regclass) returns text
language sql stable strict set search_path = pg_catalog, pg_temp
return case when exists (select from pg_attribute a where a.attrelid = rel and a.attname = 'region' and not a.attisdropped)
    then 'home_region' else 'region' end;
comment on function domicile.origin_column(regclass) is
    'The column of the copy and of the federated view that names the row''s region: region, or home_region where the table has a region of its own';

create function domicile.mirror_select(rel regclass, target regclass, origin_column text) returns void
language plpgsql strict set search_path = pg_catalog, pg_temp
as $$
declare
    one record;
begin
    -- What local roles may read of the table they may read of its copies, and nobody else: PUBLIC is domicile_local.
    for one in
        with wanted as (
            select x.grantee, null::name as col
            from pg_class c, aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) x
            where c.oid = rel and x.privilege_type = 'SELECT'
            union
            select x.grantee, u.col
            from pg_attribute a, aclexplode(a.attacl) x, unnest(array[a.attname, origin_column::name]) u (col)
            where a.attrelid = rel and not a.attisdropped and x.privilege_type = 'SELECT'
        ), want as (
            select distinct coalesce(r.rolname, 'domicile_local') as role, w.col
            from wanted w left join pg_roles r on r.oid = w.grantee
            where (r.rolname is null and w.grantee = 0)
                or r.rolname = 'domicile_local' or not domicile.is_own_role(r.rolname::text)
        ), have as (
            select r.rolname as role, h.col
            from (
                select x.grantee, x.privilege_type, null::name as col from pg_class c, aclexplode(c.relacl) x where c.oid = target
                union all
                select x.grantee, x.privilege_type, a.attname from pg_attribute a, aclexplode(a.attacl) x where a.attrelid = target
            ) h join pg_roles r on r.oid = h.grantee
            where h.privilege_type = 'SELECT' and r.rolname <> 'domicile_node'
                and h.grantee <> (select c.relowner from pg_class c where c.oid = target)
        )
        (select 'revoke select%s on %s from %I' as form, role, col from have except select 'revoke select%s on %s from %I', role, col from want)
        union all
        (select 'grant select%s on %s to %I', role, col from want except select 'grant select%s on %s to %I', role, col from have)
    loop
        execute format(one.form, case when one.col is null then '' else format(' (%I)', one.col) end, target, one.role);
    end loop;
end
$$;
comment on function domicile.mirror_select(regclass, regclass, text) is
    'Gives local roles SELECT on a copy or federated view as they have it on the table; the view needs the whole table''s';

create function domicile.unfederate() returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    one regclass;
begin
    for one in
        select c.oid::regclass from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where c.relkind = 'v' and (n.nspname = 'federated' or starts_with(n.nspname, 'federated$'))
    loop
        execute format('drop view %s', one);
    end loop;
end
$$;
comment on function domicile.unfederate() is 'Drops the federated views, so that the tables under them can be changed; domicile.federate() makes them again';

create function domicile.federate() returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    one record;
    target text;
    origin text;
    have text;
    here text := domicile.here();
begin
    perform pg_advisory_xact_lock(hashtextextended('domicile.federate', 0));
    for one in
        select c.oid::regclass as rel, n.nspname, c.relname, domicile.origin_column(c.oid) as origin_column,
            domicile.copy_schema('abroad', n.nspname) as copies, domicile.copy_schema('federated', n.nspname) as views,
            a.columns, a.list, k.key
        from domicile.locality l join pg_class c on c.oid = l.rel join pg_namespace n on n.oid = c.relnamespace
        cross join lateral (
            -- A domain's NOT NULL and CHECK are about rows in clear; the copy takes the type under it.
            select string_agg(format('%I %s%s', a.attname, format_type(t.type, case when t.type = a.atttypid then a.atttypmod else t.modifier end),
                    case when a.attcollation <> 0 and a.attcollation <> 100 then format(' collate %s', a.attcollation::regcollation) else '' end
                ), ', ' order by a.attnum) as columns,
                string_agg(format('%I', a.attname), ', ' order by a.attnum) as list
            from pg_attribute a cross join lateral (
                with recursive under (type, modifier) as (
                    select a.atttypid, -1
                    union all
                    select y.typbasetype, y.typtypmod from under u join pg_type y on y.oid = u.type and y.typtype = 'd'
                )
                select u.type, u.modifier from under u join pg_type y on y.oid = u.type where y.typtype <> 'd'
            ) t
            where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
        ) a
        left join lateral (
            select string_agg(format('%I', a.attname), ', ' order by k.place) as key
            from pg_index i, unnest(i.indkey) with ordinality k (attnum, place)
            join pg_attribute a on a.attrelid = c.oid and a.attnum = k.attnum
            where i.indrelid = c.oid and i.indisprimary
        ) k on true
        where l.locality in ('pinned', 'regional')
    loop
        for target in select unnest(array[one.copies, one.views]) loop
            if to_regnamespace(format('%I', target)) is null then
                execute format('create schema %I', target);
                execute format('revoke all on schema %I from public', target);
            end if;
            execute format('grant usage on schema %I to domicile_node, %s', target, (select string_agg(quote_ident(g), ', ') from unnest(domicile.wall_grantees()) g));
        end loop;
        target := format('%I.%I', one.copies, one.relname);
        origin := format('%I', one.origin_column);
        -- The comment holds what the table was made from: where that has changed, it is made anew and filled anew.
        have := obj_description(to_regclass(target), 'pg_class');
        if have is distinct from format('%s; key %s', one.columns, one.key) then
            execute format('drop view if exists %I.%I', one.views, one.relname);
            execute format('drop table if exists %s', target);
            update domicile.progress p set copy = null, lsn = null, state = 'starting'
                where exists (select from domicile.copied c where c.origin = p.origin and c.rel = one.rel);
            -- UNIQUE and not PRIMARY KEY: one region may send the key and another withhold it.
            execute format('create table %s (%s text not null, %s%s)', target, origin, one.columns,
                case when one.key is null then '' else format(', unique (%s, %s)', origin, one.key) end);
            execute format('comment on table %s is %L', target, format('%s; key %s', one.columns, one.key));
            execute format('grant select, insert, update, delete on %s to domicile_node', target);
        end if;
        if to_regclass(format('%I.%I', one.views, one.relname)) is null then
            -- The reader's own rights, and row-level security as it holds for the reader: the view adds none.
            execute format('create view %I.%I with (security_invoker = true) as select %s, %L::text as %s from %s union all select %s, %s from %s',
                one.views, one.relname, one.list, here, origin, one.rel, one.list, origin, target);
            execute format('comment on view %I.%I is %L', one.views, one.relname,
                format('%s here in clear, and the copies of other regions'' rows: %s says whose', one.rel, origin));
        end if;
        perform domicile.mirror_select(one.rel, target::regclass, one.origin_column);
        perform domicile.mirror_select(one.rel, format('%I.%I', one.views, one.relname)::regclass, one.origin_column);
    end loop;
    for one in
        select c.oid::regclass as rel, c.relkind from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where (n.nspname in ('abroad', 'federated') or n.nspname ~ '^(abroad|federated)\$') and c.relkind in ('r', 'v')
            and not exists (
                select from domicile.locality l join pg_class b on b.oid = l.rel join pg_namespace m on m.oid = b.relnamespace
                where l.locality in ('pinned', 'regional') and b.relname = c.relname
                    and n.nspname in (domicile.copy_schema('abroad', m.nspname), domicile.copy_schema('federated', m.nspname))
            )
        order by c.relkind desc
    loop
        execute format('drop %s %s', case one.relkind when 'v' then 'view' else 'table' end, one.rel);
    end loop;
    -- A region that is no longer of the federation leaves nothing behind.
    for one in select p.origin from domicile.progress p where not exists (select from domicile.region r where r.name = p.origin) loop
        perform domicile.copy_withdraw(one.origin);
        delete from domicile.progress p where p.origin = one.origin;
    end loop;
end
$$;
comment on function domicile.federate() is
    'Makes, for every pinned or regional table, the table of its copies in abroad and its view in federated, and mirrors who may read them';

create function domicile.copy_withdraw(origin text) returns void
language plpgsql strict security definer set search_path = pg_catalog, pg_temp
as $$
declare
    target regclass;
begin
    insert into domicile.progress as p (origin, state) values (copy_withdraw.origin, 'starting')
        on conflict on constraint progress_pkey do update
        set copy = null, lsn = null, ordinal = 0, committed_at = null, as_of = null, applied_at = null, state = 'starting', reason = null;
    for target in
        select c.oid::regclass from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where (n.nspname = 'abroad' or starts_with(n.nspname, 'abroad$')) and c.relkind = 'r'
    loop
        execute format('delete from %s where %I = $1', target, (select a.attname from pg_attribute a where a.attrelid = target and a.attnum = 1))
            using copy_withdraw.origin;
    end loop;
end
$$;
comment on function domicile.copy_withdraw(text) is 'Deletes all that is held here of a region. For this region''s agent';

create function domicile.copy_begin(origin text, copy text, resume boolean, tables jsonb) returns jsonb
language plpgsql strict security definer set search_path = pg_catalog, pg_temp
as $$
declare
    one record;
    base regclass;
    target regclass;
    wrong text;
    result jsonb := '[]';
begin
    perform domicile.begin_own_commands();
    perform domicile.federate();
    perform domicile.end_own_commands();
    if not resume then
        -- copy_withdraw has made the row, and emptied the tables of this origin's rows.
        update domicile.progress p set copy = copy_begin.copy, state = 'copying' where p.origin = copy_begin.origin;
        delete from domicile.copied c where c.origin = copy_begin.origin;
    end if;
    for one in select t ->> 'schema' as schema, t ->> 'name' as name, t -> 'columns' as columns, t -> 'key' as key from jsonb_array_elements(tables) t loop
        base := to_regclass(format('%I.%I', one.schema, one.name));
        if base is null or not exists (select from domicile.locality l where l.rel = base and l.locality in ('pinned', 'regional')) then
            raise undefined_table using
                message = format('region "%s" copies table %I.%I, which is not pinned or regional here', origin, one.schema, one.name),
                hint = 'Create the table here as it is there, and set its locality.';
        end if;
        select string_agg(format('%s: %s there, %s here', c ->> 0, c ->> 1, coalesce(format_type(a.atttypid, a.atttypmod), 'missing')), '; ')
        into wrong
        from jsonb_array_elements(one.columns) c
        left join pg_attribute a on a.attrelid = base and a.attname = c ->> 0 and a.attnum > 0 and not a.attisdropped
        where format_type(a.atttypid, a.atttypmod) is distinct from c ->> 1;
        if wrong is not null then
            raise datatype_mismatch using
                message = format('table %s is not the same in region "%s" and here', base, origin),
                detail = wrong,
                hint = 'Run the same ALTER TABLE in both regions.';
        end if;
        if jsonb_array_length(one.key) > 0 and one.key is distinct from (
            select jsonb_agg(a.attname order by k.place)
            from pg_index i, unnest(i.indkey) with ordinality k (attnum, place)
            join pg_attribute a on a.attrelid = base and a.attnum = k.attnum
            where i.indrelid = base and i.indisprimary
        ) then
            raise datatype_mismatch using
                message = format('table %s has another primary key in region "%s"', base, origin),
                hint = 'Give it the same primary key in both regions.';
        end if;
        insert into domicile.copied
        select copy_begin.origin, base, array(select c ->> 0 from jsonb_array_elements(one.columns) c), array(select jsonb_array_elements_text(one.key))
        on conflict on constraint copied_pkey do update set columns = excluded.columns, key = excluded.key;
        target := format('%I.%I', domicile.copy_schema('abroad', one.schema), one.name)::regclass;
        result := result || (
            select jsonb_build_object('schema', n.nspname, 'name', c.relname, 'row', c.reltype::bigint, 'row_array', y.typarray::bigint,
                'columns', (
                    select jsonb_agg(jsonb_build_array(a.attname, a.atttypid::bigint) order by a.attnum)
                    from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
                ))
            from pg_class c join pg_namespace n on n.oid = c.relnamespace join pg_type y on y.oid = c.reltype where c.oid = target
        );
    end loop;
    return result;
end
$$;
comment on function domicile.copy_begin(text, text, boolean, jsonb) is
    'Accepts what a region offers: checks it against the tables here, and unless it resumes calls the copy begun. For this region''s agent';

create function domicile.copy_progress(
    origin text, copy text, before bigint, after bigint, transactions bigint, committed_at timestamptz, as_of timestamptz
) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    -- Only from where this agent left it: whoever else has been at work since, one of the two must begin again.
    update domicile.progress p
    set lsn = pg_lsn '0/0' + copy_progress.after, ordinal = p.ordinal + transactions, applied_at = clock_timestamp(),
        committed_at = coalesce(copy_progress.committed_at, p.committed_at), as_of = greatest(copy_progress.as_of, p.as_of),
        state = 'streaming', reason = null
    where p.origin = copy_progress.origin and p.copy = copy_progress.copy
        and p.lsn is not distinct from pg_lsn '0/0' + copy_progress.before;
    if not found then
        raise serialization_failure using
            message = format('the copy of region "%s" was changed by another agent, or withdrawn', origin),
            hint = 'One agent serves a region; this one begins again from what is there.';
    end if;
end
$$;
comment on function domicile.copy_progress(text, text, bigint, bigint, bigint, timestamptz, timestamptz) is
    'Moves the progress of a region''s copies from one position to the next, in the transaction that holds their rows. For this region''s agent';

create function domicile.copy_end(origin text) returns void
language plpgsql strict security definer set search_path = pg_catalog, pg_temp
as $$
declare
    one record;
begin
    for one in
        select domicile.copy_schema('abroad', n.nspname) as schema, b.relname
        from domicile.copied c join pg_class b on b.oid = c.rel join pg_namespace n on n.oid = b.relnamespace where c.origin = copy_end.origin
    loop
        execute format('analyze %I.%I', one.schema, one.relname);
    end loop;
end
$$;
comment on function domicile.copy_end(text) is 'Gathers statistics on the copies of a region, once all of its rows are here. For this region''s agent';

revoke all on function domicile.stream_offer(text), domicile.stream_partitions(regclass), domicile.stream_slot(text), domicile.stream_publish(text), domicile.stream_unpublish(text),
    domicile.stream_beat(text), domicile.copy_schema(text, text), domicile.origin_column(regclass), domicile.mirror_select(regclass, regclass, text),
    domicile.unfederate(), domicile.federate(), domicile.copy_withdraw(text), domicile.copy_begin(text, text, boolean, jsonb), domicile.copy_end(text),
    domicile.copy_progress(text, text, bigint, bigint, bigint, timestamptz, timestamptz) from public;
grant usage on schema domicile to domicile_node, domicile_views;
grant execute on function domicile.version() to domicile_views;
grant execute on function domicile.stream_offer(text), domicile.stream_slot(text), domicile.stream_publish(text), domicile.stream_unpublish(text),
    domicile.stream_beat(text), domicile.copy_withdraw(text), domicile.copy_begin(text, text, boolean, jsonb), domicile.copy_end(text),
    domicile.copy_progress(text, text, bigint, bigint, bigint, timestamptz, timestamptz), domicile.version(), domicile.here() to domicile_node;
grant select, insert, update, delete on domicile.subscription to domicile_node;
grant select, insert, update on domicile.progress to domicile_node;
grant select on domicile.copied, domicile.freshness, domicile.sending to domicile_node;

-- The agent masks and copies as the role that may read what the border's views show (and reads the log anyway).
do $$
begin
    execute 'grant domicile_views to domicile_node'
        || case when current_setting('server_version_num')::int >= 160000 then ' with inherit false, set true' else '' end;
end
$$;

-- 62_exposure.sql ------------------------------------------------------------------------------------------

-- What crosses, for people: the view exposure, and what a changed policy would newly let across.

create function domicile.exposure_under(p domicile.policy, a pg_catalog.pg_attribute) returns text
language sql stable set search_path = pg_catalog, pg_temp
return case when ($1).name is null then 'withheld' when ($2).attname = any (($1).clear) then 'clear'
    when ($1).masks ? ($2).attname::text then 'masked' else 'withheld' end;
comment on function domicile.exposure_under(domicile.policy, pg_catalog.pg_attribute) is 'clear, masked or withheld';

create view domicile.exposure as
select l.rel as "table", a.attname::text as "column", r.name as destination, who.role,
    case when l.locality = 'global' then 'clear' when l.state <> 'open' then 'withheld' else domicile.exposure_under(p.policy, a) end as exposure,
    (p.policy).masks ->> a.attname::text as mask, (p.policy).rows as rows,
    coalesce((p.policy).options ->> 'copy' = 'true' and who.role = '*', false) as copied,
    (p.policy).name as policy, (p.policy).since
from domicile.locality l
cross join domicile.region r
cross join lateral (
    select '*' as role union select n from domicile.policy q, unnest(q.roles) n where q.rel = l.rel
) who
cross join lateral domicile.shared_columns(l.rel) a
cross join lateral (select domicile.policy_for(l.rel, r.name, nullif(who.role, '*')) as policy) p
where r.name <> domicile.here();
comment on view domicile.exposure is
    'For every managed table, column, destination and role (*: all that no policy names): clear, masked by what, or withheld; under '
    'which rows, by which policy, since which version of the catalog';

create function domicile.policy_diff(
    name text, rel regclass, regions text[] default null, jurisdictions text[] default null, roles text[] default null,
    rows text default null, clear text[] default '{}', masks jsonb default '{}', options jsonb default '{}'
) returns table (column_name text, destination text, role text, before text, after text, newly boolean, samples text[])
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    old domicile.policy[] := array(select p from domicile.policy p where p.rel = rel);
    fresh domicile.policy := row(rel, name, regions, jurisdictions, roles, rows, clear, masks, options, 0);
    each record;
    q domicile.policy;
begin
    perform domicile.begin_own_commands();
    perform domicile.check_policy(fresh);
    -- Both definitions are asked by the same function: the new one is put in place, looked at, and undone.
    begin
        create table domicile.diff_before as select e."column", e.destination, e.role, e.exposure, e.mask, e.rows from domicile.exposure e where e."table" = rel;
        delete from domicile.policy p where p.rel = rel and p.name = name;
        insert into domicile.policy select (fresh).*;
        for each in
            select e."column", e.destination, e.role, coalesce(b.exposure, bw.exposure, 'withheld') as was, coalesce(b.mask, bw.mask) as was_mask,
                coalesce(b.rows, bw.rows) as was_rows, e.exposure, e.mask, e.rows, a as attribute, domicile.policy_for(rel, e.destination, nullif(e.role, '*')) as policy
            from domicile.exposure e join domicile.shared_columns(rel) a on a.attname = e."column"
            left join domicile.diff_before b on b."column" = e."column" and b.destination = e.destination and b.role = e.role
            left join domicile.diff_before bw on bw."column" = e."column" and bw.destination = e.destination and bw.role = '*'
            where e."table" = rel order by e.destination, e.role, a.attnum
        loop
            continue when each.was = each.exposure and each.was_mask is not distinct from each.mask
                and (each.was_rows is not distinct from each.rows or each.exposure = 'withheld');
            column_name := each."column";
            destination := each.destination;
            role := each.role;
            before := concat_ws(' ', each.was, case when each.was = 'masked' then 'by ' || each.was_mask end, case when each.was <> 'withheld' then 'where ' || each.was_rows end);
            after := concat_ws(' ', each.exposure, case when each.exposure = 'masked' then 'by ' || each.mask end, case when each.exposure <> 'withheld' then 'where ' || each.rows end);
            newly := each.exposure <> 'withheld' and (each.was = 'withheld' or each.exposure = 'clear' and each.was = 'masked'
                or each.mask is distinct from each.was_mask and each.exposure = 'masked'
                or each.was_rows is not null and each.rows is distinct from each.was_rows);
            samples := null;
            if newly then
                q := each.policy;
                execute format('select array(select (%s)::text from %s t where (%s) limit 3)',
                    domicile.column_expression(q, each.attribute), rel, domicile.row_expression(q)) into samples;
            end if;
            return next;
        end loop;
        raise exception using errcode = 'DMOK1';
    exception when sqlstate 'DMOK1' then
        null;
    end;
    perform domicile.end_own_commands();
end
$$;
comment on function domicile.policy_diff(text, regclass, text[], text[], text[], text, text[], jsonb, jsonb) is
    'What would change if a policy were created or altered so: for each column, destination and role before, after, whether more '
    'would cross, and up to three values as they would. Changes nothing';

-- 65_two_phase.sql ------------------------------------------------------------------------------------------

-- Transactions that wrote in several regions. This region coordinates those of its own gateway's clients: the other
-- regions' parts are prepared first, and the commit of this region's part, which writes the outcome, decides. Who finds
-- a transaction unfinished later asks here, and the asking settles it: an outcome stands once, whoever writes it first.

create table domicile.two_phase (
    gid         text primary key,
    role        text not null,
    regions     text[] not null,
    began_at    timestamptz not null default now(),
    finished_at timestamptz
);
comment on table domicile.two_phase is
    'Transactions over several regions that this region coordinates: written before any other region prepares its part, '
    'finished when every region has committed or rolled back';
create index two_phase_unfinished on domicile.two_phase (began_at) where finished_at is null;

create table domicile.outcome (
    gid       text primary key,
    committed boolean not null,
    at        timestamptz not null default now()
);
comment on table domicile.outcome is
    'What became of a transaction over several regions. Written by its own commit, or, as an abort, by recovery';

create function domicile.begin_two_phase(gid text, role text, regions text[]) returns void
language sql security definer set search_path = pg_catalog, pg_temp as $$
    insert into domicile.two_phase (gid, role, regions) values ($1, $2, $3);
$$;
comment on function domicile.begin_two_phase(text, text, text[]) is
    'Notes, before anything is prepared, that this transaction of a role may have parts in these regions';

create function domicile.decide(gid text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    insert into domicile.outcome (gid, committed) values (decide.gid, true);
exception when unique_violation then
    raise exception using
        errcode = '40001',
        message = 'the transaction was given up by recovery before it committed',
        hint = 'Try it again.';
end
$$;
comment on function domicile.decide(text) is
    'The outcome of a transaction over several regions, written by the transaction itself: its commit is the decision';

create function domicile.outcome(gid text) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    -- Waits for a commit that is under way, and loses to it; otherwise nobody can commit this transaction any more.
    insert into domicile.outcome as v (gid, committed) values (outcome.gid, false) on conflict do nothing;
    return (select v.committed from domicile.outcome v where v.gid = outcome.gid);
end
$$;
comment on function domicile.outcome(text) is
    'Whether the transaction committed. Where it has not, it never will: asking settles it';

create function domicile.end_two_phase(gid text) returns void
language sql security definer set search_path = pg_catalog, pg_temp as $$
    update domicile.two_phase t set finished_at = now() where t.gid = $1;
    -- What is long finished is no longer asked for.
    delete from domicile.outcome v using domicile.two_phase t
        where v.gid = t.gid and t.finished_at < now() - interval '1 day';
    delete from domicile.two_phase t where t.finished_at < now() - interval '1 day';
$$;
comment on function domicile.end_two_phase(text) is 'Every region has done what the outcome says';

create view domicile.in_doubt as
    select t.gid, t.role, t.regions, t.began_at, v.committed
    from domicile.two_phase t left join domicile.outcome v using (gid)
    where t.finished_at is null;
comment on view domicile.in_doubt is
    'Transactions over several regions, coordinated here, that are not finished: committed is null where none has decided';

revoke all on function domicile.decide(text) from public;
grant execute on function domicile.decide(text) to domicile_local;
grant execute on function domicile.begin_two_phase(text, text, text[]), domicile.outcome(text), domicile.end_two_phase(text)
    to domicile_node;
grant select on domicile.in_doubt to domicile_node, domicile_admin;

-- 70_insert_abroad.sql ------------------------------------------------------------------------------------------

-- Rows with masked columns, inserted from abroad: a policy's option insert.
--
-- An INSTEAD OF INSERT trigger on the border view, run as domicile_insert, which may insert and read nothing but the key.
-- UPDATE and DELETE stay PostgreSQL's own. COPY works, ON CONFLICT does not. RETURNING gives NULL for what is masked: a
-- role that can write a deterministic pseudonym and read it back could try every telephone number in a minute.

create function domicile.insert_abroad() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    base regclass := tg_argv[0]::oid;
    may_insert text[] := tg_argv[1]::text[];
    readable text[] := tg_argv[2]::text[];
    given jsonb := to_jsonb(new);
    names text[];
    refused text;
    shown record;
begin
    select string_agg(quote_ident(k), ', ') into refused from jsonb_each(given) j (k, v) where j.v <> 'null' and j.k <> all (may_insert);
    if refused is not null then
        raise insufficient_privilege using message = format('column %s of table %s can''t be inserted from another region', refused, tg_table_name);
    end if;
    -- What was left out is NULL here, and gets its default; a view knows no defaults.
    names := array(select k from jsonb_each(given) j (k, v) where j.v <> 'null');
    execute format('insert into %s%s returning %s', base,
        case when cardinality(names) = 0 then ' default values'
            else format(' (%s) select %s from (select ($1).*) n', (select string_agg(quote_ident(n), ', ') from unnest(names) n),
                (select string_agg('n.' || quote_ident(n), ', ') from unnest(names) n)) end,
        case when cardinality(readable) = 0 then 'null' else (select string_agg(quote_ident(r), ', ') from unnest(readable) r) end)
        into shown using new;
    -- What was written in a masked column is not read back, neither as it was nor as its mask.
    return jsonb_populate_record(new, (select coalesce(jsonb_object_agg(m, null), '{}') from unnest(tg_argv[3]::text[]) m)
        || case when cardinality(readable) = 0 then '{}' else to_jsonb(shown) end);
end
$$;
comment on function domicile.insert_abroad() is
    'INSTEAD OF INSERT on a border view: arguments are the table''s oid, the columns that may be inserted, the key''s clear columns '
    'and the masked ones. NULL means the column''s default';

create function domicile.make_insertable(rel regclass, view regclass, insertable text[], writable text[]) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    execute format('create trigger domicile_insert instead of insert on %s for each row execute function domicile.insert_abroad(%L, %L, %L, %L)',
        view, rel::oid, insertable, array(select k from unnest(domicile.primary_key(rel)) k where k = any (writable)),
        array(select i from unnest(insertable) i where i <> all (writable)));
end
$$;
comment on function domicile.make_insertable(regclass, regclass, text[], text[]) is 'Puts the trigger of option insert on a border view';

grant create on schema domicile to domicile_insert;
alter function domicile.insert_abroad() owner to domicile_insert;
revoke create on schema domicile from domicile_insert;

-- 72_moves.sql ------------------------------------------------------------------------------------------

-- Moves: rows go home, in batches, parents with their children, and no row is ever in two homes.
--
-- A batch is one two-phase commit of which the row's present region is the coordinator and never prepares:
--   1. here:  claim_batch() locks some rows of another region, with all rows that live with them;
--   2. there: they are copied in, and PREPARE TRANSACTION keeps them, seen by nobody;
--   3. here:  confirm_batch() deletes them and writes the decision, in one transaction: its COMMIT is the decision;
--   4. there: COMMIT PREPARED.
-- After a crash the mover asks verdict() for every prepared batch that it finds. domicile/move.py does all of this.

create table domicile.moving (
    gid text,
    rel regclass,
    part oid,
    tid tid,
    primary key (gid, rel, part, tid)
);
comment on table domicile.moving is 'The rows of the batch that is being moved: empty but inside the mover''s transaction, which locks them';

create table domicile.move_decision (
    gid text primary key,
    moved boolean not null,
    region text,
    rows bigint not null default 0,
    at timestamptz not null default clock_timestamp()
);
comment on table domicile.move_decision is 'Whether a batch was moved: what its region of destination asks for when it finds it prepared';

create function domicile.family(rel regclass) returns table (member regclass, depth integer)
language sql stable set search_path = pg_catalog, pg_temp
as $$
    with recursive up (rel) as (
        select $1 union select l.parent from up join domicile.locality l on l.rel = up.rel where l.parent is not null
    ), down (rel, depth) as (
        select l.rel, 0 from up join domicile.locality l on l.rel = up.rel where l.parent is null
        union all
        select l.rel, d.depth + 1 from down d join domicile.locality l on l.parent = d.rel where d.depth < 16
    )
    select d.rel, max(d.depth) from down d group by d.rel order by 2, 1
$$;
comment on function domicile.family(regclass) is 'A pinned table''s family: the topmost parent, then all that live with it, parents before children';

create function domicile.move_obstacles(rel regclass) returns table (referring regclass, referred regclass, foreign_key text)
language sql stable set search_path = pg_catalog, pg_temp
as $$
    select f.conrelid, f.confrelid, f.conname::text
    from domicile.family($1) m join pg_constraint f on f.confrelid = m.member and f.contype = 'f' and f.confdeltype in ('c', 'n', 'd')
    where not exists (select from domicile.locality l where l.rel = f.conrelid and l.parent = f.confrelid)
$$;
comment on function domicile.move_obstacles(regclass) is
    'Foreign keys by which a move would delete or change, in silence, rows of tables that do not live with it';

create function domicile.claim_batch(rel regclass, region text, size integer, gid text)
returns table (member regclass, rows bigint, copy_out text, copy_in text)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    root regclass := (select f.member from domicile.family(rel) f where f.depth = 0);
    l domicile.locality;
    each record;
    obstacle record;
    columns text;
    condition text;
begin
    select * into l from domicile.locality g where g.rel = root;
    if l.state is distinct from 'pinning' then
        raise object_not_in_prerequisite_state using message = format('table %s is not being moved', coalesce(root, rel)),
            hint = 'domicile.set_locality(..., move => true) begins a move.';
    end if;
    if region = domicile.here() or not exists (select from domicile.region r where r.name = region) then
        raise invalid_parameter_value using message = format('region "%s" is not another region', region);
    end if;
    select * into obstacle from domicile.move_obstacles(root) limit 1;
    if found then
        raise foreign_key_violation using 
            message = format('table %s refers to %s ON DELETE (%s) and does not live with it', obstacle.referring, obstacle.referred, obstacle.foreign_key),
            hint = 'Pin it with its parent, or take the action off its foreign key.';
    end if;
    condition := case l.key_kind
        when 'region' then format('t.%I::text = %L', l.columns[1], region)
        when 'mapped' then format('t.%I::text in (select e.key from domicile.mapping_entry e where e.rel = %s and e.region = %L)', l.columns[1], l.mapping::oid, region)
        when 'id' then format('(t.%I & 1023) = %s', l.columns[1], (select r.number from domicile.region r where r.name = region)) end;
    -- FOR UPDATE waits for, and from then on refuses, whoever adds a child to these rows.
    execute format('insert into domicile.moving select %L, %s, b.part, b.tid from
        (select t.tableoid as part, t.ctid as tid from %s t where %s limit %s for update) b', gid, root::oid, root, condition, size);
    for each in select f.member, c.parent, c.columns, c.parent_columns from domicile.family(root) f join domicile.locality c on c.rel = f.member
        where f.depth > 0 order by f.depth
    loop
        execute format('insert into domicile.moving select %L, %s, b.part, b.tid from (
            select t.tableoid as part, t.ctid as tid from domicile.moving m join %s p on p.ctid = m.tid and p.tableoid = m.part
            join %s t on (%s) = (%s) where m.gid = %L and m.rel = %s for update of t) b',
            gid, each.member::oid, each.parent, each.member,
            (select string_agg(format('t.%I', c), ', ' order by o) from unnest(each.columns) with ordinality u (c, o)),
            (select string_agg(format('p.%I', c), ', ' order by o) from unnest(each.parent_columns) with ordinality u (c, o)),
            gid, each.parent::oid);
    end loop;
    return query
        select f.member, (select count(*) from domicile.moving m where m.gid = gid and m.rel = f.member),
            format('copy (select %s from domicile.moving m join %s t on t.ctid = m.tid and t.tableoid = m.part where m.gid = %L and m.rel = %s) to stdout',
                (select string_agg(format('t.%I', a.attname), ', ' order by a.attnum) from domicile.shared_columns(f.member) a where a.attgenerated = ''),
                f.member, gid, f.member::oid),
            format('copy %s (%s) from stdin', f.member,
                (select string_agg(quote_ident(a.attname), ', ' order by a.attnum) from domicile.shared_columns(f.member) a where a.attgenerated = ''))
        from domicile.family(root) f order by f.depth, f.member;
end
$$;
comment on function domicile.claim_batch(regclass, text, integer, text) is
    'Locks up to so many rows of a family''s topmost table that are at home in another region, and all rows that live with them. '
    'Returns for each table, parents first, how many, the COPY that reads them here and the COPY that writes them there';

create function domicile.confirm_batch(gid text, region text) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    each record;
    gone bigint;
    total bigint := 0;
begin
    for each in
        select f.member, count(*) as claimed from domicile.family((select m.rel from domicile.moving m where m.gid = gid limit 1)) f
        join domicile.moving m on m.rel = f.member and m.gid = gid group by f.member, f.depth order by f.depth desc
    loop
        execute format('delete from %s t using domicile.moving m where m.gid = %L and m.rel = %s and t.ctid = m.tid and t.tableoid = m.part',
            each.member, gid, each.member::oid);
        get diagnostics gone = row_count;
        if gone <> each.claimed then
            raise data_exception using message = format('%s of %s rows of table %s were deleted', gone, each.claimed, each.member),
                hint = 'A trigger of the table keeps rows from being deleted.';
        end if;
        total := total + gone;
    end loop;
    delete from domicile.moving m where m.gid = gid;
    insert into domicile.move_decision values (gid, true, region, total);
    return total;
end
$$;
comment on function domicile.confirm_batch(text, text) is
    'Deletes the claimed rows, children first, and writes the decision that they were moved. The COMMIT of its transaction is the decision';

create function domicile.verdict(gid text) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
begin
    -- Waits for a mover that is just about to confirm, and excludes one that is slow.
    insert into domicile.move_decision values (gid, false) on conflict on constraint move_decision_pkey do nothing;
    return (select d.moved from domicile.move_decision d where d.gid = gid);
end
$$;
comment on function domicile.verdict(text) is
    'Whether a prepared batch was moved. Where nothing was decided it is decided now that it was not, so that no mover can confirm it later';

create function domicile.batch_arrived(gid text) returns void
language sql security definer set search_path = pg_catalog, pg_temp
as $$
    delete from domicile.move_decision d where d.gid = $1 and d.moved;
    -- That nothing was moved is kept until no mover can still be on its way.
    delete from domicile.move_decision d where not d.moved and d.at < clock_timestamp() - interval '1 day';
$$;
comment on function domicile.batch_arrived(text) is 'Forgets the decision about a batch that stands in its new home: nobody can ask for it any more';

-- 80_proposals.sql ------------------------------------------------------------------------------------------

-- A change of the catalog that comes from another region waits for the approval of a role of this one: a region's own
-- copy of the policies decides what leaves it, and a compromised gateway elsewhere must not rewrite that copy.
--
-- A change is {"id": uuid, "function": "create_policy", "arguments": {"name": "abroad", "rel": "public.customers", ...}}.
-- At home it is made by domicile.propose(change); in every other region it is sent to <border schema>.propose(change),
-- the one function that a foreign role may call there. Its id is the same everywhere, so that a change is made once in
-- each region however often it is sent, and so that regions can be compared.

create table domicile.pending (
    seq bigint generated always as identity unique,
    change_id uuid primary key,
    change jsonb not null,
    region text not null,
    role text not null,
    at timestamptz not null default clock_timestamp(),
    state text not null default 'waiting' check (state in ('waiting', 'applied', 'rejected', 'failed')),
    error text,
    decided_by text,
    decided_at timestamptz,
    version bigint
);
comment on table domicile.pending is
    'Changes that were proposed, by this region or another: waiting for domicile.approve or domicile.reject, applied (as which version), rejected or failed';

create table domicile.approval (
    region text references domicile.region on delete cascade,
    role text,
    primary key (region, role)
);
comment on table domicile.approval is 'From whom changes are taken over without asking: domicile.auto_approve';

create table domicile.delivery (
    change_id uuid references domicile.pending on delete cascade,
    region text references domicile.region on delete cascade,
    state text not null default 'unsent',
    at timestamptz not null default clock_timestamp(),
    primary key (change_id, region)
);
comment on table domicile.delivery is 'What other regions answered to this region''s changes: unsent, or the state there when last asked';

create function domicile.proposable() returns text[]
language sql immutable set search_path = pg_catalog, pg_temp
return '{create_region,drop_region,set_locality,set_mapping,accept_mapping,create_policy,alter_policy,drop_policy}'::text[];
comment on function domicile.proposable() is 'The functions that a change may call';

create function domicile.check_change(change jsonb) returns uuid
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    if octet_length(change::text) > 65536 then
        raise program_limit_exceeded using message = 'a change has at most 64 kB';
    end if;
    if jsonb_typeof(change) is distinct from 'object' or jsonb_typeof(change -> 'arguments') is distinct from 'object'
        or not coalesce(change ->> 'function' = any (domicile.proposable()), false) then
        raise invalid_parameter_value using message = 'not a change of the catalog',
            hint = format('{"id": uuid, "function": one of %s, "arguments": {...}}', array_to_string(domicile.proposable(), ', '));
    end if;
    return (change ->> 'id')::uuid;
end
$$;
comment on function domicile.check_change(jsonb) is 'The id of a well-formed change; raises where it is none';

create function domicile.apply_change(change jsonb) returns bigint
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    f pg_proc;
    given record;
    place integer;
    type text;
    arguments text[] := '{}';
begin
    select p.* into f from pg_proc p where p.pronamespace = 'domicile'::regnamespace and p.proname = change ->> 'function';
    for given in select key, value, value #>> '{}' as text from jsonb_each(change -> 'arguments') loop
        place := array_position(f.proargnames, given.key);
        if place is null then
            raise undefined_parameter using message = format('domicile.%s has no argument "%s"', f.proname, given.key);
        end if;
        type := format_type(f.proargtypes[place - 1], null);
        arguments := arguments || format('%I => %s', given.key, case
            when given.value = 'null' then format('null::%s', type)
            when type = 'text[]' then format('array(select jsonb_array_elements_text(%L))', given.value)
            when type = 'jsonb' then format('%L::jsonb', given.value)
            -- A name without its schema is one of public: nobody's search_path is meant here.
            when type = 'regclass' and to_regclass(given.text) is null then format('%L::regclass', 'public.' || given.text)
            else format('%L::%s', given.text, type) end);
    end loop;
    execute format('select domicile.%I(%s)', f.proname, array_to_string(arguments, ', '));
    return domicile.version();
end
$$;
comment on function domicile.apply_change(jsonb) is 'Makes a change here; returns the catalog''s version then';

create function domicile.propose(change jsonb) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    id uuid := domicile.check_change(change);
    made bigint;
begin
    insert into domicile.pending (change_id, change, region, role, state, decided_by, decided_at)
        values (id, change, domicile.must_be_somewhere(), session_user, 'applied', session_user, clock_timestamp())
        on conflict on constraint pending_pkey do nothing;
    if not found then
        return (select p.state from domicile.pending p where p.change_id = id);
    end if;
    made := domicile.apply_change(change);
    update domicile.pending p set version = made where p.change_id = id;
    insert into domicile.delivery (change_id, region) select id, r.name from domicile.region r where r.name <> domicile.here();
    return 'applied';
end
$$;
comment on function domicile.propose(jsonb) is
    'Makes a change in this region and notes that the others are to get it. Returns its state; the same change twice is made once';

create function domicile.receive_proposal(change jsonb) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    id uuid := domicile.check_change(change);
    asker domicile.foreign_role;
    made bigint;
    said text;
begin
    select * into asker from domicile.foreign_role f where f.name = session_user;
    if not found or not domicile.may_propose(asker.role) then
        raise insufficient_privilege using message = format('role "%s" may not propose changes to region "%s"', session_user, domicile.here()),
            hint = 'Only the mirror of a role that owns managed tables here, or is a member of domicile_admin, may.';
    end if;
    if (select count(*) from domicile.pending p where p.region = asker.region and p.state = 'waiting') >= 100 then
        raise program_limit_exceeded using message = format('100 changes of region "%s" wait for approval in region "%s" already', asker.region, domicile.here());
    end if;
    insert into domicile.pending (change_id, change, region, role) values (id, change, asker.region, asker.role)
        on conflict on constraint pending_pkey do nothing;
    if found and exists (select from domicile.approval a where a.region = asker.region and a.role = asker.role) then
        begin
            made := domicile.apply_change(change);
            update domicile.pending p set state = 'applied', version = made, decided_by = 'auto_approve', decided_at = clock_timestamp()
                where p.change_id = id;
        exception when others then
            -- Kept and said, so that it can be put right and approved here.
            get stacked diagnostics said = message_text;
            update domicile.pending p set state = 'failed', error = said, decided_at = clock_timestamp() where p.change_id = id;
        end;
    end if;
    return (select p.state from domicile.pending p where p.change_id = id);
end
$$;
comment on function domicile.receive_proposal(jsonb) is
    'A change that a role of another region proposes: kept until it is approved here, or applied at once where domicile.auto_approve says so. '
    'Returns its state here: waiting, applied, rejected or failed';

create function domicile.may_propose(role text) returns boolean
language sql stable set search_path = pg_catalog, pg_temp
return exists (select from pg_roles r where r.rolname = $1 and (pg_has_role(r.oid, 'domicile_admin', 'usage') or exists (
    select from domicile.locality l join pg_class c on c.oid = l.rel where pg_has_role(r.oid, c.relowner, 'usage'))));
comment on function domicile.may_propose(text) is 'Whether the mirrors of a local role may propose changes: it owns managed tables or is a member of domicile_admin';

create function domicile.approve(id uuid) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    asked domicile.pending;
    made bigint;
begin
    if exists (select from domicile.foreign_role f where f.name = session_user) then
        raise insufficient_privilege using message = 'only a role of this region approves';
    end if;
    select * into asked from domicile.pending p where p.change_id = id for update;
    if not found then
        raise undefined_object using message = format('no change has the id %s', id), hint = 'select * from domicile.pending where state = ''waiting'';';
    elsif asked.state not in ('waiting', 'failed') then
        raise object_not_in_prerequisite_state using message = format('the change is %s already', asked.state);
    end if;
    made := domicile.apply_change(asked.change);
    update domicile.pending p set state = 'applied', error = null, version = made, decided_by = session_user, decided_at = clock_timestamp()
        where p.change_id = id;
    return made;
end
$$;
comment on function domicile.approve(uuid) is 'Makes a change that another region proposed. Returns the catalog''s version';

create function domicile.reject(id uuid, reason text default null) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
begin
    update domicile.pending p set state = 'rejected', error = reason, decided_by = session_user, decided_at = clock_timestamp()
        where p.change_id = id and p.state in ('waiting', 'failed');
    if not found then
        raise undefined_object using message = format('no change with the id %s waits', id);
    end if;
end
$$;
comment on function domicile.reject(uuid, text) is 'Refuses a change that another region proposed';

create function domicile.auto_approve(region text, role text, allow boolean default true) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
begin
    delete from domicile.approval a where a.region = region and a.role = role;
    if allow then
        insert into domicile.approval values (region, role);
    end if;
    perform domicile.changed('auto approve', jsonb_build_object('region', region, 'role', role, 'allow', allow));
end
$$;
comment on function domicile.auto_approve(text, text, boolean) is
    'Lets a role of another region change this region''s catalog without asking, or no longer: it decides then what leaves this region';

create function domicile.delivered(change_id uuid, region text, state text) returns void
language sql security definer set search_path = pg_catalog, pg_temp
as $$ update domicile.delivery d set state = $3, at = clock_timestamp() where d.change_id = $1 and d.region = $2 $$;
comment on function domicile.delivered(uuid, text, text) is 'Notes what another region answered to a change of this one';

create view domicile.outstanding as
select p.seq, p.change_id, p.change, d.region, d.state, d.at
from domicile.delivery d join domicile.pending p on p.change_id = d.change_id
where d.state <> 'applied' order by p.seq, d.region;
comment on view domicile.outstanding is
    'This region''s changes that other regions have not made yet, in the order in which they are to be sent: unsent, waiting for approval there, rejected or failed';

create function domicile.settle_proposals() returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    each record;
    signature regprocedure;
begin
    for each in select r.name as region, domicile.border_schema('public', r.name) as schema from domicile.region r
        join pg_namespace n on n.nspname = domicile.border_schema('public', r.name) and n.nspowner = 'domicile_views'::regrole
        where r.name <> domicile.here()
    loop
        signature := to_regprocedure(format('%I.propose(jsonb)', each.schema));
        if signature is null then
            -- A SQL-standard body holds the function that it calls, so that the caller needs no USAGE on its schema.
            execute format('create function %I.propose(change jsonb) returns text language sql set search_path = pg_catalog, pg_temp
                return domicile.receive_proposal(change)', each.schema);
            signature := format('%I.propose(jsonb)', each.schema)::regprocedure;
            execute format('revoke all on function %s from public', signature);
            execute format('comment on function %s is %L', signature, 'Domicile: proposes a change of the catalog to this region');
        end if;
    end loop;
    -- Who may: both the function that can be named and the one behind it.
    for each in
        with target as (
            select 'domicile.receive_proposal(jsonb)'::regprocedure as f, null::text as region
            union all select to_regprocedure(format('%I.propose(jsonb)', domicile.border_schema('public', r.name))), r.name from domicile.region r
        ), want as (
            select t.f, f.name from target t join domicile.foreign_role f on t.region is null or f.region = t.region
            where t.f is not null and domicile.may_propose(f.role)
        ), have as (
            select t.f, r.rolname::text as name from target t join pg_proc p on p.oid = t.f cross join lateral aclexplode(p.proacl) a
            join pg_roles r on r.oid = a.grantee join domicile.foreign_role f on f.name = r.rolname
        )
        select coalesce(h.f, w.f) as f, coalesce(h.name, w.name) as name, w.f is not null as give
        from have h full join want w on w.f = h.f and w.name = h.name where h.f is null or w.f is null
    loop
        execute format('%s execute on function %s %s %I', case when each.give then 'grant' else 'revoke' end, each.f,
            case when each.give then 'to' else 'from' end, each.name);
    end loop;
end
$$;
comment on function domicile.settle_proposals() is 'Puts into each border schema the one function that a foreign role may call, for the roles that may';

-- 90_event_triggers.sql ------------------------------------------------------------------------------------------

-- The full level: event triggers close the border while a table changes and make it again in the same transaction, so that
-- an application's ALTER TABLE is not refused for the sake of a view. On the managed level domicile.audit(), called each
-- second, stands in for them: until then a renamed column keeps its old name abroad, and an ALTER COLUMN TYPE is refused.
--
-- No event trigger fires, for anyone, on GRANT ... ON DATABASE, GRANT role TO role, CREATE and ALTER ROLE: always polled.
-- No NOTIFY here: it would forbid PREPARE TRANSACTION.

create function domicile.on_command_start() returns event_trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp set client_min_messages = warning
as $$
declare
    command text := current_query();
begin
    if coalesce(current_setting('domicile.settling', true), '') = domicile.settle_token() then
        return;
    end if;
    if not exists (select from domicile.locality) then
        return;
    end if;
    -- A plain command that names no managed table leaves the border open: its views need not wait for who reads them.
    -- Whatever hides its table's name (a function, a DO block, U&"") closes it.
    if tg_tag in ('ALTER TABLE', 'DROP TABLE') and command ~* ('^\s*' || replace(tg_tag, ' ', '\s+') || '\M') and command !~* 'U&"' and not exists (
        select from domicile.locality l join pg_class c on c.oid = l.rel
        where (position(lower(c.relname) in lower(command)) > 0
        or exists (select from pg_inherits i join pg_class k on k.oid = i.inhrelid where i.inhparent = c.oid))
    ) then
        return;
    end if;
    perform set_config('domicile.settling', domicile.settle_token(), true);
    perform domicile.close_border();
    perform set_config('domicile.settling', '', true);
end
$$;
comment on function domicile.on_command_start() is 'Event trigger: drops the border and federated views before a command that could need them gone';

create function domicile.on_command_end() returns event_trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp set client_min_messages = warning
as $$
declare
    now_ record;
begin
    if coalesce(current_setting('domicile.settling', true), '') = domicile.settle_token() then
        return;
    end if;
    if exists (select from pg_event_trigger_ddl_commands()) and not exists (
        select from pg_event_trigger_ddl_commands() c where c.schema_name is distinct from 'pg_temp'
    ) then
        return;
    end if;
    select * into now_ from domicile.fingerprint();
    if domicile.remembered('fingerprint of the wall') = now_.wall or domicile.here() is null then
        return;
    elsif domicile.remembered('fingerprint of the border') is distinct from now_.border then
        perform domicile.settle();
        return;
    end if;
    -- Nothing of the border's: what PUBLIC got by it is taken back without settle()'s lock, else one long migration would
    -- hold up every other, and the audit. The audit finds the rest when this transaction has ended.
    perform set_config('domicile.settling', domicile.settle_token(), true);
    begin
        perform domicile.settle_wall();
    exception when internal_error then
        null;  -- "tuple concurrently updated": another transaction takes the same privilege away
    end;
    perform set_config('domicile.settling', '', true);
end
$$;
comment on function domicile.on_command_end() is 'Event trigger: settle() after a command that may have changed what it depends on, or only the wall';

do $$
begin
    if (select rolsuper from pg_catalog.pg_roles where rolname = current_user) then
        create event trigger domicile_start on ddl_command_start
            when tag in ('ALTER TABLE', 'DROP TABLE', 'ALTER TYPE', 'DROP TYPE', 'ALTER DOMAIN', 'DROP DOMAIN', 'DROP FUNCTION', 'DROP SCHEMA',
                'DROP EXTENSION', 'ALTER EXTENSION', 'DROP COLLATION', 'DROP OWNED')
            execute function domicile.on_command_start();
        create event trigger domicile_end on ddl_command_end
            when tag in ('ALTER TABLE', 'DROP TABLE', 'ALTER TYPE', 'DROP TYPE', 'ALTER DOMAIN', 'DROP DOMAIN', 'DROP FUNCTION', 'DROP SCHEMA',
                'DROP EXTENSION', 'ALTER EXTENSION', 'DROP COLLATION', 'DROP OWNED',
                'CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO', 'CREATE SCHEMA', 'ALTER SCHEMA', 'CREATE VIEW', 'ALTER VIEW', 'DROP VIEW',
                'CREATE MATERIALIZED VIEW', 'ALTER MATERIALIZED VIEW', 'DROP MATERIALIZED VIEW', 'CREATE EXTENSION',
                'GRANT', 'REVOKE', 'ALTER DEFAULT PRIVILEGES', 'CREATE FUNCTION', 'ALTER FUNCTION', 'CREATE PROCEDURE', 'CREATE TRIGGER',
                'ALTER TRIGGER', 'DROP TRIGGER', 'CREATE SEQUENCE', 'ALTER SEQUENCE', 'CREATE FOREIGN TABLE', 'CREATE SERVER',
                'CREATE LANGUAGE')
            execute function domicile.on_command_end();
    end if;
end
$$;

-- 99_grants.sql ------------------------------------------------------------------------------------------

-- Who may call what. What runs with its owner's rights is closed to PUBLIC; what does not can do no more than its caller.
-- Foreign roles have no USAGE on the schema, so the EXECUTE that PUBLIC keeps on mask functions lets
-- them be computed in views and called by nobody from abroad.

do $$
declare
    f record;
begin
    for f in
        select p.oid::regprocedure as signature, p.proname as name, p.prosecdef as definer from pg_catalog.pg_proc p where p.pronamespace = 'domicile'::regnamespace
    loop
        if f.definer and f.name not in ('here', 'next_id', 'region_of', 'set_password') then
            execute format('revoke all on function %s from public', f.signature);
        end if;
        if f.name in ('create_region', 'drop_region', 'set_here', 'set_locality', 'set_mapping', 'accept_mapping', 'finish_move', 'rows_by_home', 'claim_batch', 'confirm_batch', 'verdict', 'batch_arrived', 'propose', 'approve', 'reject', 'auto_approve', 'delivered', 'move_obstacles', 'family',
            'create_policy', 'alter_policy', 'drop_policy', 'policy_diff', 'settle', 'close_border', 'audit', 'snapshot', 'align_ids', 'reach', 'enroll', 'version') then
            execute format('grant execute on function %s to domicile_admin', f.signature);
        end if;
    end loop;
end
$$;

grant usage on schema domicile to domicile_local, domicile_admin, domicile_node;
grant execute on function domicile.snapshot(), domicile.audit(), domicile.settle(boolean), domicile.version(), domicile.verifier(text),
    domicile.login_secret(text, text), domicile.copy_source(regclass, text), domicile.enroll(text, text), domicile.reach(text), domicile.delivered(uuid, text, text) to domicile_node;
grant select on all tables in schema domicile to domicile_admin;
revoke all on domicile.secret, domicile.mask_key, domicile.enrolled from domicile_admin;
grant select on domicile.region, domicile.locality, domicile.policy, domicile.change, domicile.border_view, domicile.finding, domicile.exposure,
    domicile.mapping, domicile.mapping_entry, domicile.pending, domicile.outstanding, domicile.setting to domicile_node;
grant select, insert on domicile.egress to domicile_node;
