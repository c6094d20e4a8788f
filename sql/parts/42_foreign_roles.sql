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
