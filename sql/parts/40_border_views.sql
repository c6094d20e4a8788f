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
