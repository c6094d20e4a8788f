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
