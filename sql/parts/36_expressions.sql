-- What a policy makes of a column: one SQL expression, the same in the live view, the snapshot and the stream.

create function domicile.collate_clause(a pg_catalog.pg_attribute) returns text
language sql stable set search_path = pg_catalog, pg_temp
return coalesce((
    select format(' collate %I.%I', n.nspname, c.collname)
    from pg_collation c join pg_namespace n on n.oid = c.collnamespace join pg_type t on t.oid = ($1).atttypid
    where c.oid = ($1).attcollation and c.oid <> t.typcollation
), '');

create function domicile.typed_null(a pg_catalog.pg_attribute) returns text
language sql stable set search_path = pg_catalog, pg_temp
return (
    with recursive base (oid, not_null) as (
        select t.oid, t.typnotnull from pg_type t where t.oid = ($1).atttypid
        union all select t.oid, t.typnotnull from base b join pg_type d on d.oid = b.oid and d.typtype = 'd' join pg_type t on t.oid = d.typbasetype
    )
    select case
        -- A domain that is NOT NULL has no NULL to cast, but a subquery without rows gives one.
        when bool_or(not_null) then format('(select v.n::%s from (values (null::text)) v (n) where false)', format_type(($1).atttypid, ($1).atttypmod))
        else format('null::%s', format_type(($1).atttypid, ($1).atttypmod)) end
        || domicile.collate_clause($1)
    from base
);

create table domicile.compiled_expression (
    rel oid,
    column_name text,
    expression text,
    shape text not null,
    compiled text not null,
    primary key (rel, column_name, expression)
);
comment on table domicile.compiled_expression is
    'Masks and ROWS (column_name empty) as they stand in views, so that settle() need not analyse them again while the table''s shape is the same';

create function domicile.shape(rel regclass) returns text
language sql stable set search_path = pg_catalog, pg_temp
return md5(concat_ws('|',
    (select string_agg(concat_ws(' ', a.attnum, a.attname, a.atttypid, a.atttypmod, a.attcollation), ',' order by a.attnum)
        from pg_attribute a where a.attrelid = $1 and a.attnum > 0 and not a.attisdropped),
    -- A mask's key is by default that of the column which a foreign key refers to, and is refused where it could collide.
    (select string_agg(concat_ws(' ', k.contype, k.conkey, k.confrelid, k.confkey), ',' order by k.oid)
        from pg_constraint k where (k.conrelid = $1 or k.confrelid = $1) and k.contype in ('p', 'u', 'x', 'f'))
));
comment on function domicile.shape(regclass) is 'What of a table a compiled expression depends on, in short';

create function domicile.compiled(rel regclass, column_name text, expression text) returns text
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    shape text := domicile.shape(rel);
    result text;
begin
    select e.compiled into result from domicile.compiled_expression e
        where e.rel = rel and e.column_name = coalesce(column_name, '') and e.expression = expression and e.shape = shape;
    if not found then
        result := case when column_name is null then domicile.wrap_rows(rel, expression) else domicile.wrap_mask(rel, column_name, expression) end;
        insert into domicile.compiled_expression values (rel, coalesce(column_name, ''), expression, shape, result)
            on conflict on constraint compiled_expression_pkey do update set shape = excluded.shape, compiled = excluded.compiled;
    end if;
    return result;
end
$$;
comment on function domicile.compiled(regclass, text, text) is 'domicile.wrap_mask, or domicile.wrap_rows without a column, remembered while the table keeps its shape';

create function domicile.row_expression(p domicile.policy) returns text
language sql set search_path = pg_catalog, pg_temp
as $$ select case when ($1).rows is null then 'true' else domicile.compiled(($1).rel, null, ($1).rows) end $$;
comment on function domicile.row_expression(domicile.policy) is 'The condition on rows of a policy, over a row t; true where it has none';

create function domicile.forget_unused() returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    delete from domicile.compiled_expression e where not exists (
        select from domicile.policy p where p.rel = e.rel and (e.column_name = '' and p.rows = e.expression or p.masks ->> e.column_name = e.expression)
    );
    perform domicile.drop_unused_mask_wrappers();
    delete from domicile.compiled_expression e
        where e.compiled ~ 'domicile\.mask_[0-9a-f]{20}\(' and not exists (
            select from domicile.mask_wrapper w where position('domicile.' || w.name || '(' in e.compiled) > 0);
end
$$;
comment on function domicile.forget_unused() is 'Drops what was compiled for policies that are no more';

create function domicile.column_expression(p domicile.policy, a pg_catalog.pg_attribute) returns text
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    return case
        when a.attname = any (p.clear) then format('t.%I', a.attname)
        when p.masks ? a.attname::text then
            domicile.compiled(a.attrelid, a.attname::text, p.masks ->> a.attname::text)
        else domicile.typed_null(a)
    end;
end
$$;
comment on function domicile.column_expression(domicile.policy, pg_catalog.pg_attribute) is
    'What stands for a column under a policy (none: withheld), over a row t: the column, its mask, or NULL of its type';
comment on function domicile.typed_null(pg_catalog.pg_attribute) is 'NULL of a column''s type and collation, also where its domain forbids NULL';
comment on function domicile.collate_clause(pg_catalog.pg_attribute) is 'The COLLATE clause that gives an expression its column''s collation; empty where the type''s own does';

create function domicile.shared_columns(rel regclass) returns setof pg_catalog.pg_attribute
language sql stable set search_path = pg_catalog, pg_temp
as $$ select a from pg_attribute a where a.attrelid = $1 and a.attnum > 0 and not a.attisdropped order by a.attnum $$;
comment on function domicile.shared_columns(regclass) is 'A table''s columns in catalog order, dropped ones left out';

create function domicile.copy_source(rel regclass, region text)
returns table (select_list text, rows text, columns text[], policy text, since bigint)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    p domicile.policy := domicile.policy_for(rel, region);
begin
    if p.options @> '{"copy": true}' and region <> domicile.here()
        and exists (select from domicile.locality l where l.rel = rel and l.locality in ('pinned', 'regional') and l.state = 'open') then
        return query
            select string_agg(format('%s as %I', domicile.column_expression(p, a), a.attname), ', ' order by a.attnum),
                domicile.row_expression(p), array_agg(a.attname::text order by a.attnum), p.name, p.since
            from domicile.shared_columns(rel) a;
    end if;
end
$$;
comment on function domicile.copy_source(regclass, text) is
    'How rows of a table are made fit for a region''s copy: select <select_list> from <table, or unnest($1::schema.table[])> as t '
    'where <rows>. Every column in catalog order, withheld ones NULL. No row where no policy lets that region have a copy';
