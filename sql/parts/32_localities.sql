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
