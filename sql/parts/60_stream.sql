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
