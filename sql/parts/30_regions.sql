-- The regions of the federation.

create function domicile.set_here(region text, marker uuid default null) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    kept uuid;
    number integer;
begin
    if not exists (select from domicile.region r where r.name = set_here.region) then
        raise undefined_object using message = format('region "%s" does not exist', region),
            hint = format('select domicile.create_region(%L, ''<jurisdiction>'');', region);
    end if;
    if domicile.here() <> region and exists (select from domicile.locality) then
        raise object_in_use using message = format('this database is region "%s" and has managed tables', domicile.here()),
            hint = 'Which region a database is can change only while no table is managed.';
    end if;
    update domicile.region r set marker = coalesce(set_here.marker, r.marker, gen_random_uuid())
        where r.name = set_here.region returning r.marker, r.number into kept, number;
    if domicile.here() is distinct from region then
        insert into domicile.setting values ('here', region) on conflict on constraint setting_pkey do update set value = excluded.value;
        execute format('alter sequence domicile.id_sequence start with %s restart with %s', 1024 + number, 1024 + number);
        perform domicile.changed('set here', jsonb_build_object('region', region));
    end if;
    perform domicile.settle();
    return kept;
end
$$;
comment on function domicile.set_here(text, uuid) is
    'Says which region this database is. Returns its marker, by which others prove that they speak with it';

create function domicile.create_region(
    name text, jurisdiction text, number integer default null, marker uuid default null
) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    given integer := number;
begin
    if name !~ '^[a-z][a-z0-9_]{0,15}$' then
        raise invalid_name using message = format('region name "%s" is not one', name),
            hint = 'It begins with a lower-case letter and holds at most 16 of a-z, 0-9 and _.';
    end if;
    if exists (select from domicile.region r where r.name = create_region.name) then
        raise duplicate_object using message = format('region "%s" already exists', name);
    end if;
    if given is null then
        select min(n) into given from generate_series(1, 1023) n where not exists (select from domicile.region r where r.number = n);
    elsif exists (select from domicile.region r where r.number = given) then
        raise duplicate_object using
            message = format('region number %s is that of region "%s"', given, (select r.name from domicile.region r where r.number = given)),
            hint = 'A region must have the same number in every region''s catalog.';
    end if;
    -- Said at once: a role that has no name abroad would be noticed by its user only.
    perform domicile.foreign_name(m.role, create_region.name) from domicile.mirrored_role() m;
    perform domicile.border_schema(n.nspname::text, create_region.name)
        from domicile.locality l join pg_class c on c.oid = l.rel join pg_namespace n on n.oid = c.relnamespace;
    insert into domicile.region values (name, given, jurisdiction, marker);
    perform domicile.changed('create region', jsonb_build_object('region', name, 'number', given, 'jurisdiction', jurisdiction));
    perform domicile.settle();
    return given;
end
$$;
comment on function domicile.create_region(text, text, integer, uuid) is
    'Adds a region. Returns its number, the next free one unless given; it must be the same in every region''s catalog';

create function domicile.drop_region(name text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    users text;
begin
    if not exists (select from domicile.region r where r.name = drop_region.name) then
        raise undefined_object using message = format('region "%s" does not exist', name);
    end if;
    if name = domicile.here() then
        raise object_in_use using message = format('region "%s" is this one', name);
    end if;
    select string_agg(u, ', ') into users from (
        select format('policy %I on %s', p.name, p.rel) from domicile.policy p where drop_region.name = any (p.regions)
        union all select format('table %s', l.rel) from domicile.locality l where l.home = drop_region.name
        union all select format('mapping %s (%s keys)', e.rel, count(*)) from domicile.mapping_entry e where e.region = drop_region.name group by e.rel
    ) as use (u);
    if users is not null then
        raise dependent_objects_still_exist using message = format('region "%s" is still named', name), detail = users,
            hint = 'Move what lives there and alter what names it first.';
    end if;
    delete from domicile.region r where r.name = drop_region.name;
    perform domicile.changed('drop region', jsonb_build_object('region', name));
    perform domicile.settle();
end
$$;
comment on function domicile.drop_region(text) is 'Removes a region, its border schema and its foreign roles; refused while anything names it';
