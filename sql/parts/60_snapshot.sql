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
