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
