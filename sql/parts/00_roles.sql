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
