-- What crosses, for people: the view exposure, and what a changed policy would newly let across.

create function domicile.exposure_under(p domicile.policy, a pg_catalog.pg_attribute) returns text
language sql stable set search_path = pg_catalog, pg_temp
return case when ($1).name is null then 'withheld' when ($2).attname = any (($1).clear) then 'clear'
    when ($1).masks ? ($2).attname::text then 'masked' else 'withheld' end;
comment on function domicile.exposure_under(domicile.policy, pg_catalog.pg_attribute) is 'clear, masked or withheld';

create view domicile.exposure as
select l.rel as "table", a.attname::text as "column", r.name as destination, who.role,
    case when l.locality = 'global' then 'clear' when l.state <> 'open' then 'withheld' else domicile.exposure_under(p.policy, a) end as exposure,
    (p.policy).masks ->> a.attname::text as mask, (p.policy).rows as rows,
    coalesce((p.policy).options ->> 'copy' = 'true' and who.role = '*', false) as copied,
    (p.policy).name as policy, (p.policy).since
from domicile.locality l
cross join domicile.region r
cross join lateral (
    select '*' as role union select n from domicile.policy q, unnest(q.roles) n where q.rel = l.rel
) who
cross join lateral domicile.shared_columns(l.rel) a
cross join lateral (select domicile.policy_for(l.rel, r.name, nullif(who.role, '*')) as policy) p
where r.name <> domicile.here();
comment on view domicile.exposure is
    'For every managed table, column, destination and role (*: all that no policy names): clear, masked by what, or withheld; under '
    'which rows, by which policy, since which version of the catalog';

create function domicile.policy_diff(
    name text, rel regclass, regions text[] default null, jurisdictions text[] default null, roles text[] default null,
    rows text default null, clear text[] default '{}', masks jsonb default '{}', options jsonb default '{}'
) returns table (column_name text, destination text, role text, before text, after text, newly boolean, samples text[])
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    old domicile.policy[] := array(select p from domicile.policy p where p.rel = rel);
    fresh domicile.policy := row(rel, name, regions, jurisdictions, roles, rows, clear, masks, options, 0);
    each record;
    q domicile.policy;
begin
    perform domicile.begin_own_commands();
    perform domicile.check_policy(fresh);
    -- Both definitions are asked by the same function: the new one is put in place, looked at, and undone.
    begin
        create table domicile.diff_before as select e."column", e.destination, e.role, e.exposure, e.mask, e.rows from domicile.exposure e where e."table" = rel;
        delete from domicile.policy p where p.rel = rel and p.name = name;
        insert into domicile.policy select (fresh).*;
        for each in
            select e."column", e.destination, e.role, coalesce(b.exposure, bw.exposure, 'withheld') as was, coalesce(b.mask, bw.mask) as was_mask,
                coalesce(b.rows, bw.rows) as was_rows, e.exposure, e.mask, e.rows, a as attribute, domicile.policy_for(rel, e.destination, nullif(e.role, '*')) as policy
            from domicile.exposure e join domicile.shared_columns(rel) a on a.attname = e."column"
            left join domicile.diff_before b on b."column" = e."column" and b.destination = e.destination and b.role = e.role
            left join domicile.diff_before bw on bw."column" = e."column" and bw.destination = e.destination and bw.role = '*'
            where e."table" = rel order by e.destination, e.role, a.attnum
        loop
            continue when each.was = each.exposure and each.was_mask is not distinct from each.mask
                and (each.was_rows is not distinct from each.rows or each.exposure = 'withheld');
            column_name := each."column";
            destination := each.destination;
            role := each.role;
            before := concat_ws(' ', each.was, case when each.was = 'masked' then 'by ' || each.was_mask end, case when each.was <> 'withheld' then 'where ' || each.was_rows end);
            after := concat_ws(' ', each.exposure, case when each.exposure = 'masked' then 'by ' || each.mask end, case when each.exposure <> 'withheld' then 'where ' || each.rows end);
            newly := each.exposure <> 'withheld' and (each.was = 'withheld' or each.exposure = 'clear' and each.was = 'masked'
                or each.mask is distinct from each.was_mask and each.exposure = 'masked'
                or each.was_rows is not null and each.rows is distinct from each.was_rows);
            samples := null;
            if newly then
                q := each.policy;
                execute format('select array(select (%s)::text from %s t where (%s) limit 3)',
                    domicile.column_expression(q, each.attribute), rel, domicile.row_expression(q)) into samples;
            end if;
            return next;
        end loop;
        raise exception using errcode = 'DMOK1';
    exception when sqlstate 'DMOK1' then
        null;
    end;
    perform domicile.end_own_commands();
end
$$;
comment on function domicile.policy_diff(text, regclass, text[], text[], text[], text, text[], jsonb, jsonb) is
    'What would change if a policy were created or altered so: for each column, destination and role before, after, whether more '
    'would cross, and up to three values as they would. Changes nothing';
