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
