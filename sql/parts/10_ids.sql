-- Ids that carry their region: the low ten bits are the region's number.
--
-- They stay below 2^53 (exact in JavaScript) for 8.8e12 ids of each region. That two regions never make the same id
-- rests on: the regions' numbers differ (a unique key here, agreed when a region is created), the sequence steps by
-- 1024 from a start above every id that existed anywhere before it was aligned, and nobody writes ids by hand.

create sequence domicile.id_sequence as bigint increment by 1024 minvalue 1 start with 1;
comment on sequence domicile.id_sequence is 'Feeds domicile.next_id(); domicile.set_here() starts it at this region''s number';

create function domicile.next_id() returns bigint
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
begin
    if (select value from domicile.setting where name = 'here') is null then
        perform domicile.must_be_somewhere();
    end if;
    return nextval('domicile.id_sequence');
end
$$;
comment on function domicile.next_id() is
    'A new id, unique over the whole federation, that carries this region''s number in its low ten bits. Good as a column default';

create function domicile.region_of(id bigint) returns text
language sql stable strict parallel safe security definer set search_path = pg_catalog, pg_temp
return (select r.name from domicile.region r where r.number = ($1 & 1023) and $1 > 0);
comment on function domicile.region_of(bigint) is 'The region whose number the id carries; NULL where there is none';

create function domicile.primary_key(rel regclass) returns text[]
language sql stable strict set search_path = pg_catalog, pg_temp
return coalesce((
    select array_agg(a.attname::text order by k.place)
    from pg_index i cross join unnest(i.indkey::smallint[]) with ordinality as k (attnum, place)
    join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
    where i.indrelid = $1 and i.indisprimary and k.place <= i.indnkeyatts
), '{}');
comment on function domicile.primary_key(regclass) is 'The columns of a table''s primary key, in its order; empty where it has none';

create function domicile.feeding_sequence(rel regclass, column_name text) returns regclass
language sql stable strict set search_path = pg_catalog, pg_temp
return (
    select coalesce(
        (select d.objid from pg_depend d  -- an identity's own
            where d.refclassid = 'pg_class'::regclass and d.refobjid = a.attrelid and d.refobjsubid = a.attnum
            and d.classid = 'pg_class'::regclass and d.deptype = 'i' and a.attidentity <> ''),
        (select d.refobjid from pg_attrdef f  -- a default that names it, serial's as well
            join pg_depend d on d.classid = 'pg_attrdef'::regclass and d.objid = f.oid and d.refclassid = 'pg_class'::regclass
            join pg_class s on s.oid = d.refobjid and s.relkind = 'S'
            where f.adrelid = a.attrelid and f.adnum = a.attnum limit 1))::regclass
    from pg_attribute a where a.attrelid = $1 and a.attname = $2 and not a.attisdropped
);
comment on function domicile.feeding_sequence(regclass, text) is 'The sequence that feeds a column by identity, serial or a nextval default';

create function domicile.aligned_id(rel regclass) returns text
language sql stable strict set search_path = pg_catalog, pg_temp
return (
    select pk.key[1] from (select domicile.primary_key($1) as key) pk
    join pg_sequence s on s.seqrelid = domicile.feeding_sequence($1, pk.key[1])
    where cardinality(pk.key) = 1 and s.seqincrement = 1024
    and (s.seqstart & 1023) = (select r.number from domicile.region r where r.name = domicile.here())
);
comment on function domicile.aligned_id(regclass) is 'The primary key''s column, where it is fed by a sequence that makes ids of this region';

create function domicile.align_ids(rel regclass, above bigint default 0) returns bigint
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    here text := domicile.must_be_somewhere();
    number integer := (select r.number from domicile.region r where r.name = here);
    key text[] := domicile.primary_key(rel);
    feed regclass;
    type oid;
    greatest_id bigint;
    last bigint;
    called boolean;
    start bigint;
begin
    if cardinality(key) <> 1 then
        return null;
    end if;
    select a.atttypid into type from pg_attribute a where a.attrelid = rel and a.attname = key[1];
    feed := domicile.feeding_sequence(rel, key[1]);
    if feed is null or type not in ('bigint'::regtype, 'integer'::regtype) then
        return null;
    end if;
    -- Rows that come in meanwhile must not take an id above the one that is found here.
    execute format('lock table %s in share row exclusive mode', rel);
    execute format('select coalesce(max(%I), 0) from %s', key[1], rel) into greatest_id;
    execute format('select last_value, is_called from %s', feed) into last, called;
    greatest_id := greatest(greatest_id, above);
    start := case when called then last + 1024 else last end;
    if domicile.aligned_id(rel) is not null and start > greatest_id then
        return start;
    end if;
    greatest_id := greatest(greatest_id, case when called then last else 0 end);
    start := ((greatest_id >> 10) + 1) << 10 | number;
    if type = 'integer'::regtype then
        if start > 2147483647 - 1024 then
            raise numeric_value_out_of_range using
                message = format('column "%s" of table %s is an integer and has no ids left that carry a region', key[1], rel),
                hint = format('alter table %s alter column %I type bigint;', rel, key[1]);
        end if;
        raise warning 'column "%" of table % is an integer: % ids are left for this region', key[1], rel, (2147483647 - start) / 1024
            using hint = format('alter table %s alter column %I type bigint;', rel, key[1]);
    end if;
    execute format('alter sequence %s increment by 1024 start with %s restart with %s', feed, start, start);
    return start;
end
$$;
comment on function domicile.align_ids(regclass, bigint) is
    'Makes the sequence behind a table''s integer primary key give ids that carry this region, above every id here and '
    'above the one given (the greatest of the other regions). Returns the next id; NULL where no sequence feeds the key';
