-- A change of the catalog that comes from another region waits for the approval of a role of this one: a region's own
-- copy of the policies decides what leaves it, and a compromised gateway elsewhere must not rewrite that copy.
--
-- A change is {"id": uuid, "function": "create_policy", "arguments": {"name": "abroad", "rel": "public.customers", ...}}.
-- At home it is made by domicile.propose(change); in every other region it is sent to <border schema>.propose(change),
-- the one function that a foreign role may call there. Its id is the same everywhere, so that a change is made once in
-- each region however often it is sent, and so that regions can be compared.

create table domicile.pending (
    seq bigint generated always as identity unique,
    change_id uuid primary key,
    change jsonb not null,
    region text not null,
    role text not null,
    at timestamptz not null default clock_timestamp(),
    state text not null default 'waiting' check (state in ('waiting', 'applied', 'rejected', 'failed')),
    error text,
    decided_by text,
    decided_at timestamptz,
    version bigint
);
comment on table domicile.pending is
    'Changes that were proposed, by this region or another: waiting for domicile.approve or domicile.reject, applied (as which version), rejected or failed';

create table domicile.approval (
    region text references domicile.region on delete cascade,
    role text,
    primary key (region, role)
);
comment on table domicile.approval is 'From whom changes are taken over without asking: domicile.auto_approve';

create table domicile.delivery (
    change_id uuid references domicile.pending on delete cascade,
    region text references domicile.region on delete cascade,
    state text not null default 'unsent',
    at timestamptz not null default clock_timestamp(),
    primary key (change_id, region)
);
comment on table domicile.delivery is 'What other regions answered to this region''s changes: unsent, or the state there when last asked';

create function domicile.proposable() returns text[]
language sql immutable set search_path = pg_catalog, pg_temp
return '{create_region,drop_region,set_locality,set_mapping,accept_mapping,create_policy,alter_policy,drop_policy}'::text[];
comment on function domicile.proposable() is 'The functions that a change may call';

create function domicile.check_change(change jsonb) returns uuid
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    if octet_length(change::text) > 65536 then
        raise program_limit_exceeded using message = 'a change has at most 64 kB';
    end if;
    if jsonb_typeof(change) is distinct from 'object' or jsonb_typeof(change -> 'arguments') is distinct from 'object'
        or not coalesce(change ->> 'function' = any (domicile.proposable()), false) then
        raise invalid_parameter_value using message = 'not a change of the catalog',
            hint = format('{"id": uuid, "function": one of %s, "arguments": {...}}', array_to_string(domicile.proposable(), ', '));
    end if;
    return (change ->> 'id')::uuid;
end
$$;
comment on function domicile.check_change(jsonb) is 'The id of a well-formed change; raises where it is none';

create function domicile.apply_change(change jsonb) returns bigint
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    f pg_proc;
    given record;
    place integer;
    type text;
    arguments text[] := '{}';
begin
    select p.* into f from pg_proc p where p.pronamespace = 'domicile'::regnamespace and p.proname = change ->> 'function';
    for given in select key, value, value #>> '{}' as text from jsonb_each(change -> 'arguments') loop
        place := array_position(f.proargnames, given.key);
        if place is null then
            raise undefined_parameter using message = format('domicile.%s has no argument "%s"', f.proname, given.key);
        end if;
        type := format_type(f.proargtypes[place - 1], null);
        arguments := arguments || format('%I => %s', given.key, case
            when given.value = 'null' then format('null::%s', type)
            when type = 'text[]' then format('array(select jsonb_array_elements_text(%L))', given.value)
            when type = 'jsonb' then format('%L::jsonb', given.value)
            -- A name without its schema is one of public: nobody's search_path is meant here.
            when type = 'regclass' and to_regclass(given.text) is null then format('%L::regclass', 'public.' || given.text)
            else format('%L::%s', given.text, type) end);
    end loop;
    execute format('select domicile.%I(%s)', f.proname, array_to_string(arguments, ', '));
    return domicile.version();
end
$$;
comment on function domicile.apply_change(jsonb) is 'Makes a change here; returns the catalog''s version then';

create function domicile.propose(change jsonb) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    id uuid := domicile.check_change(change);
    made bigint;
begin
    insert into domicile.pending (change_id, change, region, role, state, decided_by, decided_at)
        values (id, change, domicile.must_be_somewhere(), session_user, 'applied', session_user, clock_timestamp())
        on conflict on constraint pending_pkey do nothing;
    if not found then
        return (select p.state from domicile.pending p where p.change_id = id);
    end if;
    made := domicile.apply_change(change);
    update domicile.pending p set version = made where p.change_id = id;
    insert into domicile.delivery (change_id, region) select id, r.name from domicile.region r where r.name <> domicile.here();
    return 'applied';
end
$$;
comment on function domicile.propose(jsonb) is
    'Makes a change in this region and notes that the others are to get it. Returns its state; the same change twice is made once';

create function domicile.receive_proposal(change jsonb) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    id uuid := domicile.check_change(change);
    asker domicile.foreign_role;
    made bigint;
    said text;
begin
    select * into asker from domicile.foreign_role f where f.name = session_user;
    if not found or not domicile.may_propose(asker.role) then
        raise insufficient_privilege using message = format('role "%s" may not propose changes to region "%s"', session_user, domicile.here()),
            hint = 'Only the mirror of a role that owns managed tables here, or is a member of domicile_admin, may.';
    end if;
    if (select count(*) from domicile.pending p where p.region = asker.region and p.state = 'waiting') >= 100 then
        raise program_limit_exceeded using message = format('100 changes of region "%s" wait for approval in region "%s" already', asker.region, domicile.here());
    end if;
    insert into domicile.pending (change_id, change, region, role) values (id, change, asker.region, asker.role)
        on conflict on constraint pending_pkey do nothing;
    if found and exists (select from domicile.approval a where a.region = asker.region and a.role = asker.role) then
        begin
            made := domicile.apply_change(change);
            update domicile.pending p set state = 'applied', version = made, decided_by = 'auto_approve', decided_at = clock_timestamp()
                where p.change_id = id;
        exception when others then
            -- Kept and said, so that it can be put right and approved here.
            get stacked diagnostics said = message_text;
            update domicile.pending p set state = 'failed', error = said, decided_at = clock_timestamp() where p.change_id = id;
        end;
    end if;
    return (select p.state from domicile.pending p where p.change_id = id);
end
$$;
comment on function domicile.receive_proposal(jsonb) is
    'A change that a role of another region proposes: kept until it is approved here, or applied at once where domicile.auto_approve says so. '
    'Returns its state here: waiting, applied, rejected or failed';

create function domicile.may_propose(role text) returns boolean
language sql stable set search_path = pg_catalog, pg_temp
return exists (select from pg_roles r where r.rolname = $1 and (pg_has_role(r.oid, 'domicile_admin', 'usage') or exists (
    select from domicile.locality l join pg_class c on c.oid = l.rel where pg_has_role(r.oid, c.relowner, 'usage'))));
comment on function domicile.may_propose(text) is 'Whether the mirrors of a local role may propose changes: it owns managed tables or is a member of domicile_admin';

create function domicile.approve(id uuid) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    asked domicile.pending;
    made bigint;
begin
    if exists (select from domicile.foreign_role f where f.name = session_user) then
        raise insufficient_privilege using message = 'only a role of this region approves';
    end if;
    select * into asked from domicile.pending p where p.change_id = id for update;
    if not found then
        raise undefined_object using message = format('no change has the id %s', id), hint = 'select * from domicile.pending where state = ''waiting'';';
    elsif asked.state not in ('waiting', 'failed') then
        raise object_not_in_prerequisite_state using message = format('the change is %s already', asked.state);
    end if;
    made := domicile.apply_change(asked.change);
    update domicile.pending p set state = 'applied', error = null, version = made, decided_by = session_user, decided_at = clock_timestamp()
        where p.change_id = id;
    return made;
end
$$;
comment on function domicile.approve(uuid) is 'Makes a change that another region proposed. Returns the catalog''s version';

create function domicile.reject(id uuid, reason text default null) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
begin
    update domicile.pending p set state = 'rejected', error = reason, decided_by = session_user, decided_at = clock_timestamp()
        where p.change_id = id and p.state in ('waiting', 'failed');
    if not found then
        raise undefined_object using message = format('no change with the id %s waits', id);
    end if;
end
$$;
comment on function domicile.reject(uuid, text) is 'Refuses a change that another region proposed';

create function domicile.auto_approve(region text, role text, allow boolean default true) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
begin
    delete from domicile.approval a where a.region = region and a.role = role;
    if allow then
        insert into domicile.approval values (region, role);
    end if;
    perform domicile.changed('auto approve', jsonb_build_object('region', region, 'role', role, 'allow', allow));
end
$$;
comment on function domicile.auto_approve(text, text, boolean) is
    'Lets a role of another region change this region''s catalog without asking, or no longer: it decides then what leaves this region';

create function domicile.delivered(change_id uuid, region text, state text) returns void
language sql security definer set search_path = pg_catalog, pg_temp
as $$ update domicile.delivery d set state = $3, at = clock_timestamp() where d.change_id = $1 and d.region = $2 $$;
comment on function domicile.delivered(uuid, text, text) is 'Notes what another region answered to a change of this one';

create view domicile.outstanding as
select p.seq, p.change_id, p.change, d.region, d.state, d.at
from domicile.delivery d join domicile.pending p on p.change_id = d.change_id
where d.state <> 'applied' order by p.seq, d.region;
comment on view domicile.outstanding is
    'This region''s changes that other regions have not made yet, in the order in which they are to be sent: unsent, waiting for approval there, rejected or failed';

create function domicile.settle_proposals() returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    each record;
    signature regprocedure;
begin
    for each in select r.name as region, domicile.border_schema('public', r.name) as schema from domicile.region r
        join pg_namespace n on n.nspname = domicile.border_schema('public', r.name) and n.nspowner = 'domicile_views'::regrole
        where r.name <> domicile.here()
    loop
        signature := to_regprocedure(format('%I.propose(jsonb)', each.schema));
        if signature is null then
            -- A SQL-standard body holds the function that it calls, so that the caller needs no USAGE on its schema.
            execute format('create function %I.propose(change jsonb) returns text language sql set search_path = pg_catalog, pg_temp
                return domicile.receive_proposal(change)', each.schema);
            signature := format('%I.propose(jsonb)', each.schema)::regprocedure;
            execute format('revoke all on function %s from public', signature);
            execute format('comment on function %s is %L', signature, 'Domicile: proposes a change of the catalog to this region');
        end if;
    end loop;
    -- Who may: both the function that can be named and the one behind it.
    for each in
        with target as (
            select 'domicile.receive_proposal(jsonb)'::regprocedure as f, null::text as region
            union all select to_regprocedure(format('%I.propose(jsonb)', domicile.border_schema('public', r.name))), r.name from domicile.region r
        ), want as (
            select t.f, f.name from target t join domicile.foreign_role f on t.region is null or f.region = t.region
            where t.f is not null and domicile.may_propose(f.role)
        ), have as (
            select t.f, r.rolname::text as name from target t join pg_proc p on p.oid = t.f cross join lateral aclexplode(p.proacl) a
            join pg_roles r on r.oid = a.grantee join domicile.foreign_role f on f.name = r.rolname
        )
        select coalesce(h.f, w.f) as f, coalesce(h.name, w.name) as name, w.f is not null as give
        from have h full join want w on w.f = h.f and w.name = h.name where h.f is null or w.f is null
    loop
        execute format('%s execute on function %s %s %I', case when each.give then 'grant' else 'revoke' end, each.f,
            case when each.give then 'to' else 'from' end, each.name);
    end loop;
end
$$;
comment on function domicile.settle_proposals() is 'Puts into each border schema the one function that a foreign role may call, for the roles that may';
