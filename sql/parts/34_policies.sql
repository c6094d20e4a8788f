-- Policies: what of a managed table may be seen in other regions.

create function domicile.policy_level(p domicile.policy) returns integer
language sql immutable set search_path = pg_catalog, pg_temp
return case when ($1).roles is not null then 10 else 0 end
    + case when ($1).regions is not null then 3 when ($1).jurisdictions is not null then 2 else 1 end;
comment on function domicile.policy_level(domicile.policy) is 'How specific a policy is: roles outweigh regions, regions jurisdictions, jurisdictions all';

create function domicile.policy_for(rel regclass, region text, role text default null) returns domicile.policy
language sql stable set search_path = pg_catalog, pg_temp
as $$
    select p from domicile.policy p join domicile.region r on r.name = $2
    where p.rel = $1 and (p.regions is null or r.name = any (p.regions))
    and (p.jurisdictions is null or r.jurisdiction = any (p.jurisdictions))
    and (p.roles is null or $3 = any (p.roles))
    order by domicile.policy_level(p) desc limit 1
$$;
comment on function domicile.policy_for(regclass, text, text) is
    'The policy by which a role of a region sees a table; without a role, the one for roles that no policy names (and for copies)';

create function domicile.check_policy(p domicile.policy) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    l domicile.locality;
    c text;
    expression text;
    guess record;
    other domicile.policy;
    speaking text;
begin
    select * into l from domicile.locality where locality.rel = p.rel;
    if not found or l.locality = 'global' then
        raise object_not_in_prerequisite_state using
            message = format('table %s is not pinned or regional, so no policy can be written for it', p.rel),
            hint = format('select domicile.set_locality(%L, ''pinned'', ...);', p.rel);
    end if;
    if p.name !~ '^[^[:cntrl:]]{1,63}$' then
        raise invalid_name using message = 'a policy needs a name';
    end if;
    if p.regions is not null and p.jurisdictions is not null then
        raise invalid_parameter_value using message = 'a policy names regions or jurisdictions, not both', hint = 'Write two policies.';
    end if;
    foreach c in array coalesce(p.regions, '{}') loop
        if not exists (select from domicile.region r where r.name = c) then
            raise undefined_object using message = format('region "%s" does not exist', c);
        end if;
    end loop;
    foreach c in array coalesce(p.jurisdictions, '{}') loop
        if not exists (select from domicile.region r where r.jurisdiction = c) then
            raise undefined_object using message = format('no region stands under jurisdiction "%s"', c),
                hint = (select format('There are: %s.', string_agg(distinct jurisdiction, ', ')) from domicile.region);
        end if;
    end loop;
    perform domicile.foreign_name(role, r.name) from unnest(p.roles) role, domicile.region r;
    foreach c in array p.clear loop
        perform domicile.must_have_column(p.rel, c);
        if p.masks ? c then
            raise invalid_parameter_value using message = format('column "%s" of table %s is both clear and masked', c, p.rel);
        end if;
    end loop;
    if jsonb_typeof(p.masks) <> 'object' or jsonb_typeof(p.options) <> 'object' then
        raise invalid_parameter_value using message = 'masks and options are JSON objects', hint = '{"email": "domicile.pseudonym(email)"}';
    end if;
    for c, expression in select * from jsonb_each_text(p.masks) loop
        perform domicile.must_have_column(p.rel, c);
        perform domicile.check_mask(p.rel, c, expression, p.clear);
    end loop;
    if p.rows is not null then
        perform domicile.check_rows(p.rel, p.rows);
    end if;
    for c in select k from jsonb_object_keys(p.options) k where k <> all ('{copy,reads,max_staleness,insert}') loop
        raise invalid_parameter_value using message = format('a policy has no option "%s"', c), hint = 'copy, reads, max_staleness, insert';
    end loop;
    if jsonb_typeof(p.options -> 'copy') <> 'boolean' then
        raise invalid_parameter_value using message = 'option copy is true or false';
    end if;
    if p.options ->> 'reads' not in ('fresh', 'near') then
        raise invalid_parameter_value using message = format('option reads is "%s"', p.options ->> 'reads'), hint = 'fresh or near';
    end if;
    begin
        if (p.options ->> 'max_staleness')::interval < '0' then
            raise invalid_datetime_format;
        end if;
    exception when data_exception then
        raise invalid_parameter_value using message = format('option max_staleness is "%s"', p.options ->> 'max_staleness'), hint = 'An interval, such as 1s.';
    end;
    if jsonb_typeof(p.options -> 'insert') = 'array' then
        for c in select jsonb_array_elements_text(p.options -> 'insert') loop
            perform domicile.must_have_column(p.rel, c);
        end loop;
    elsif jsonb_typeof(p.options -> 'insert') <> 'boolean' then
        raise invalid_parameter_value using message = 'option insert is true, false or a list of columns';
    end if;
    if p.options -> 'insert' is not null and p.options -> 'insert' <> 'false' then
        for guess in select g.column_name, g.index from domicile.guessable(p.rel) g
            where p.masks ? g.column_name and (p.options -> 'insert' = 'true' or p.options -> 'insert' ? g.column_name)
        loop
            raise object_not_in_prerequisite_state using
                message = format('masked column "%s" of table %s can''t be inserted from abroad', guess.column_name, p.rel),
                detail = format('Constraint or index "%s" would refuse a value that a row has, and so tell who tries which values there are.', guess.index),
                hint = format('Name the columns in option insert without it, or accept this: domicile.set_locality(..., accept => ''{%s}'').', guess.index);
        end loop;
    end if;
    if p.options @> '{"copy": true}' and p.roles is not null then
        raise invalid_parameter_value using message = 'a policy for roles can''t make copies', hint = 'A copy is for a whole region.';
    end if;
    -- Two policies that fit the same region and role and are equally specific: which one wins would be chance.
    for other in
        select q.* from domicile.policy q where q.rel = p.rel and q.name <> p.name
        and domicile.policy_level(q) = domicile.policy_level(p)
        and (q.roles is null or q.roles && p.roles) and (q.regions is null or q.regions && p.regions)
        and (q.jurisdictions is null or q.jurisdictions && p.jurisdictions)
    loop
        raise duplicate_object using
            message = format('policies "%s" and "%s" of table %s are equally specific for the same region', p.name, other.name, p.rel),
            hint = 'Alter one of them, or name regions or roles in one.';
    end loop;
    select string_agg(format('%s: %s', s.object, s.why), E'\n') into speaking from domicile.speakers(p.rel) s where s.object <> all (l.accepted);
    if speaking is not null then
        raise object_not_in_prerequisite_state using
            message = format('table %s has constraints or triggers that could speak across the border', p.rel), detail = speaking,
            hint = 'Accept each by its name in domicile.set_locality(..., accept => ''{...}'').';
    end if;
end
$$;
comment on function domicile.check_policy(domicile.policy) is 'Raises where a policy can''t be: with the table, the column and the way out';

create function domicile.notice_guessing(p domicile.policy) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    columns text := (select string_agg(quote_ident(j.key), ', ' order by j.key) from jsonb_each_text(p.masks) j
        where j.value ~* '\mpseudonym\s*\(' and (p.options -> 'insert' = 'true' or p.options -> 'insert' ? j.key));
begin
    if columns is not null then
        raise notice 'who may insert into % from abroad can find rows by guessing values of %', p.rel, columns
            using hint = 'INSERT abroad mirrors INSERT here: grant it to the roles that need it. docs/threats.md, Guessing.';
    end if;
end
$$;
comment on function domicile.notice_guessing(domicile.policy) is
    'Says to whoever makes a policy that option insert, on a column seen as a pseudonym, lets values be tried';

create function domicile.create_policy(
    name text, rel regclass, regions text[] default null, jurisdictions text[] default null, roles text[] default null,
    rows text default null, clear text[] default '{}', masks jsonb default '{}', options jsonb default '{}'
) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    p domicile.policy;
begin
    if exists (select from domicile.policy q where q.rel = rel and q.name = name) then
        raise duplicate_object using message = format('policy "%s" of table %s already exists', name, rel);
    end if;
    p := row(rel, name, regions, jurisdictions, roles, rows, coalesce(clear, '{}'), coalesce(masks, '{}'), coalesce(options, '{}'), 0);
    perform domicile.begin_own_commands();
    perform domicile.check_policy(p);
    p.since := domicile.changed('create policy', to_jsonb(p));
    insert into domicile.policy select (p).*;
    perform domicile.settle();
    perform domicile.must_be_shared(rel);
    perform domicile.end_own_commands();
    perform domicile.notice_guessing(p);
    return p.since;
end
$$;
comment on function domicile.create_policy(text, regclass, text[], text[], text[], text, text[], jsonb, jsonb) is
    'Says what other regions may see of a table: to which regions or jurisdictions (null: all), optionally for which roles; '
    'rows: a condition; clear: columns as they are; masks: column to SQL expression; every other column is withheld. '
    'options: copy, reads (fresh, near), max_staleness, insert (masked columns that may be inserted from abroad). Returns the version';

create function domicile.alter_policy(
    name text, rel regclass, regions text[] default null, jurisdictions text[] default null, roles text[] default null,
    rows text default null, clear text[] default '{}', masks jsonb default '{}', options jsonb default '{}'
) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    p domicile.policy;
begin
    if not exists (select from domicile.policy q where q.rel = rel and q.name = name) then
        raise undefined_object using message = format('policy "%s" of table %s does not exist', name, rel);
    end if;
    p := row(rel, name, regions, jurisdictions, roles, rows, coalesce(clear, '{}'), coalesce(masks, '{}'), coalesce(options, '{}'), 0);
    perform domicile.begin_own_commands();
    perform domicile.check_policy(p);
    p.since := domicile.changed('alter policy', to_jsonb(p));
    delete from domicile.policy q where q.rel = rel and q.name = name;
    insert into domicile.policy select (p).*;
    perform domicile.settle();
    perform domicile.must_be_shared(rel);
    perform domicile.end_own_commands();
    perform domicile.notice_guessing(p);
    return p.since;
end
$$;
comment on function domicile.alter_policy(text, regclass, text[], text[], text[], text, text[], jsonb, jsonb) is
    'Puts a new definition, whole, in the place of a policy''s old one. Where it is refused the old one stands. Returns the version';

create function domicile.drop_policy(name text, rel regclass) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    version bigint;
begin
    delete from domicile.policy q where q.rel = rel and q.name = name;
    if not found then
        raise undefined_object using message = format('policy "%s" of table %s does not exist', name, rel);
    end if;
    version := domicile.changed('drop policy', jsonb_build_object('table', rel, 'policy', name));
    perform domicile.settle();
    return version;
end
$$;
comment on function domicile.drop_policy(text, regclass) is 'Drops a policy; what no other policy shows is withheld from then on. Returns the version';
