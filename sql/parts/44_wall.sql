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
