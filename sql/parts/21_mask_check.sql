-- The checker of mask and ROWS expressions, and what makes a checked expression ready for a view.
--
-- How an expression is read. Its text is never trusted: PostgreSQL itself analyses it, as the one column of a view that
-- lives inside a subtransaction which is always rolled back. Nothing of it is planned or executed on the way (planning
-- would already run "immutable" functions over constants). The analysed tree, pg_rewrite.ev_action, is then walked node
-- by node against allow-lists: an unknown node kind, function, or cast is refused. pg_depend would not do, for it
-- records nothing about pg_catalog.
--
-- What is refused and why:
--   * anything but immutable functions of the list domicile.mask_functions: settings, clocks, files, other tables, and
--     functions that an application's role could replace;
--   * text forms that follow a setting (date::text follows DateStyle, which a foreign role may set);
--   * regular expressions: their run time over a value has no bound that can be known here;
--   * an expression through which the column's own value flows to the result without passing a function that hides.
-- An expression that may raise, as text::int does, would put values into error messages; domicile.wrap_mask puts it
-- behind a function that answers NULL instead.
--
-- Errors say what was written and where. They hold nothing of any row, for no row is ever read here.

-- What an expression may call ----------------------------------------------------------------------------------------

create view domicile.mask_functions as
with listed(name, hides, raises) as (values
    -- text
    ('lower', false, false), ('upper', false, false), ('initcap', false, false), ('btrim', false, false),
    ('ltrim', false, false), ('rtrim', false, false), ('reverse', false, false), ('replace', false, false),
    ('translate', false, false), ('textcat', false, false), ('text', false, false), ('varchar', false, false), ('name', false, false),
    ('bpchar', false, true), ('normalize', false, true), ('lpad', false, true), ('rpad', false, true),
    ('repeat', false, true), ('overlay', true, true), ('left', true, false), ('right', true, false),
    ('substr', true, true), ('substring', true, true), ('split_part', true, true), ('strpos', true, false),
    ('position', true, false), ('char_length', true, false), ('character_length', true, false),
    ('length', true, false), ('octet_length', true, false), ('bit_length', true, false), ('starts_with', true, false),
    ('ascii', true, true), ('chr', false, true), ('byteacat', false, true), ('encode', false, true),
    -- numbers
    ('int2', false, true), ('int4', false, true), ('int8', false, true), ('numeric', false, true),
    ('float8', false, true), ('float4', false, true), ('bool', false, true), ('abs', false, true), ('sign', true, true),
    ('ceil', false, true), ('ceiling', false, true), ('floor', false, true), ('round', false, true), ('trunc', false, true),
    ('mod', true, true), ('div', true, true),
    ('int2pl', false, true), ('int2mi', false, true), ('int2mul', false, true), ('int2div', true, true),
    ('int2um', false, true), ('int2mod', true, true),
    ('int4pl', false, true), ('int4mi', false, true), ('int4mul', false, true), ('int4div', true, true),
    ('int4um', false, true), ('int4mod', true, true),
    ('int8pl', false, true), ('int8mi', false, true), ('int8mul', false, true), ('int8div', true, true),
    ('int8um', false, true), ('int8mod', true, true),
    ('int24pl', false, true), ('int42pl', false, true), ('int48pl', false, true), ('int84pl', false, true),
    ('int24mi', false, true), ('int42mi', false, true), ('int48mi', false, true), ('int84mi', false, true),
    ('int24mul', false, true), ('int42mul', false, true), ('int48mul', false, true), ('int84mul', false, true),
    ('int24div', true, true), ('int42div', true, true), ('int48div', true, true), ('int84div', true, true),
    ('numeric_add', false, true), ('numeric_sub', false, true), ('numeric_mul', false, true),
    ('numeric_div', false, true), ('numeric_mod', true, true), ('numeric_uminus', false, true),
    ('float8pl', false, true), ('float8mi', false, true), ('float8mul', false, true), ('float8div', false, true),
    ('float8um', false, true),
    -- dates and times
    ('date', false, true), ('timestamp', false, true), ('timestamptz', false, true), ('time', false, true),
    ('interval', false, true), ('date_trunc', true, true), ('date_part', true, true), ('extract', true, true),
    ('make_date', false, true), ('date_mi', false, true), ('date_pli', false, true), ('date_mii', false, true),
    ('date_pl_interval', false, true), ('date_mi_interval', false, true), ('timestamp_pl_interval', false, true),
    ('timestamp_mi_interval', false, true), ('timestamp_mi', false, true), ('timestamptz_mi', false, true),
    ('timezone', false, true), ('isfinite', true, false),
    -- jsonb, arrays, network addresses, bits
    ('jsonb_object_field', true, false), ('jsonb_object_field_text', true, false), ('jsonb_array_element', true, false),
    ('jsonb_array_element_text', true, false), ('jsonb_extract_path', true, false),
    ('jsonb_extract_path_text', true, false), ('jsonb_delete', true, true), ('jsonb_delete_path', true, true),
    ('jsonb_set', true, true), ('jsonb_concat', false, true), ('jsonb_typeof', true, false),
    ('jsonb_array_length', true, true), ('jsonb_strip_nulls', false, false), ('array_length', true, false),
    ('cardinality', true, false), ('family', true, false), ('masklen', true, false), ('set_masklen', false, true),
    ('network', false, false), ('inet', false, true), ('cidr', false, true), ('host', false, false),
    ('bit', false, true), ('varbit', false, true)
),
-- Types whose functions are known here; no geometry, no text search, no system types.
known(type) as (
    select unnest(array['bool', 'int2', 'int4', 'int8', 'numeric', 'float4', 'float8', 'text', 'varchar', 'bpchar', 'name',
        '"char"', 'uuid', 'date', 'time', 'timetz', 'timestamp', 'timestamptz', 'interval', 'bytea', 'jsonb', 'inet', 'cidr',
        'macaddr', 'macaddr8', 'bit', 'varbit', 'oid', 'anyenum', '_text']::regtype[]::oid[])
),
-- Comparisons tell one bit; LIKE raises on a pattern that ends in its escape character.
comparison(function, raises) as (
    select o.oprcode::oid, bool_or(o.oprname ~ '~~')
    from pg_catalog.pg_operator o
    where o.oid < 16384 and o.oprresult = 'bool'::regtype
      and o.oprname in ('=', '<>', '<', '<=', '>', '>=', '~~', '!~~', '~~*', '!~~*', '&&', '@>', '<@', '?', '?|', '?&',
                        '<<', '>>', '<<=', '>>=')
      and o.oprleft in (select type from known) and o.oprright in (select type from known)
    group by 1
),
chosen(function, hides, raises, keyed) as (
    select p.oid, l.hides, l.raises, false
    from pg_catalog.pg_proc p join listed l on l.name = p.proname
    where p.oid < 16384 and p.pronamespace = 'pg_catalog'::regnamespace
      -- substring(text, text) and its like are regular expressions.
      and not (p.proname = 'substring' and p.proargtypes[1] = 'text'::regtype)
      and (p.proname in ('array_length', 'cardinality')
           or not exists (select from unnest(p.proargtypes) a where a not in (select type from known)))
    union all
    select c.function, true, c.raises, false from comparison c
    union all
    select p.oid, true,
           p.proargtypes[0] = 'float8'::regtype
           or p.proname = 'noise' and p.proargtypes[0] not in ('numeric'::regtype, 'int8'::regtype, 'int4'::regtype),
           p.proname in ('pseudonym', 'noise', 'fake')
    from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace and n.nspname = 'domicile'
    where p.proowner = n.nspowner
      and p.proname in ('pseudonym', 'partial', 'partial_email', 'generalize', 'noise', 'fake', 'redact', 'withheld')
)
select format('%I.%I(%s)', n.nspname, p.proname, pg_catalog.pg_get_function_identity_arguments(p.oid)) as signature,
       c.hides, c.raises, c.keyed, c.function
from chosen c
join pg_catalog.pg_proc p on p.oid = c.function
join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where p.prokind = 'f' and not p.proretset and (p.provolatile = 'i' or c.keyed);
comment on view domicile.mask_functions is
'Every function, and function behind an operator or cast, that a mask or ROWS expression may use. hides: it takes something away by its nature (how much, as with left(), its arguments say and the author of the policy answers for). raises: it may raise on some value, so that the expression is wrapped. keyed: domicile.wrap_mask supplies the key.';
revoke all on domicile.mask_functions from public;

create table domicile.mask_wrapper (
    name text primary key,
    relation regclass not null,
    column_name text,
    expression text not null,
    created_at timestamptz not null default now()
);
comment on table domicile.mask_wrapper is
'The functions domicile.mask_… that domicile.wrap_mask and wrap_rows made around expressions that may raise: for which table and column (NULL: ROWS), and the canonical expression. Dropped by domicile.drop_unused_mask_wrappers().';
revoke all on domicile.mask_wrapper from public;

-- Reading the analysed tree --------------------------------------------------------------------------------------------

create function domicile.node_tree(tree text) returns jsonb
language sql immutable strict
set search_path = pg_catalog, pg_temp
as $$
    -- A pg_node_tree as JSON: {NODE :field value …} is an object with its kind under "node", (…) an array, all else a
    -- string, <> null. Positions in the text and marks of use are left out, names of 15 become those of 18. Names that
    -- a user chose can't pass for structure: PostgreSQL escapes blanks and brackets in them with a backslash.
    with token as (
        select m[1] as t, n
        from regexp_matches(
            regexp_replace(tree,
                ' :(?:(?:location|stmt_location|stmt_len) -?\d+|selectedCols \(b[^)]*\)|has[A-Z][A-Za-z]+ (?:true|false))',
                '', 'g'),
            '(\{[A-Z]*|[}()]|\d+ \[[^\]]*\]|(?:\\.|[^\s(){}\\])+)', 'g') with ordinality as r(m, n)
    ), follows as (
        select t, n, lag(t) over (order by n) as before from token
    )
    select string_agg(
        case
            when t = '}' then '}'
            when t = ')' then ']'
            when t like ':%' then ',' || to_json(substr(t, 2)) || ':'
            else case when before is null or before = '(' or before like ':%' then '' else ',' end
                || case
                    when t like '{%' then '{"node":' || to_json(case t
                        when '{RTE' then 'RANGETBLENTRY' when '{CASE' then 'CASEEXPR' when '{WHEN' then 'CASEWHEN'
                        when '{COALESCE' then 'COALESCEEXPR' when '{MINMAX' then 'MINMAXEXPR' when '{ARRAY' then 'ARRAYEXPR'
                        when '{ROW' then 'ROWEXPR' when '{COLLATE' then 'COLLATEEXPR' else substr(t, 2) end)
                    when t = '(' then '['
                    when t = '<>' then 'null'
                    else to_json(t)::text end
        end, '' order by n)::jsonb
    from follows
$$;
comment on function domicile.node_tree(text) is
'A pg_node_tree (as text) as JSON; NULL for NULL. Raises where the text is not one.';

create function domicile.view_text(view regclass) returns text
language sql stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$ select pg_get_viewdef(view) $$;
comment on function domicile.view_text(regclass) is
'pg_get_viewdef with every name qualified that is not of pg_catalog.';

create function domicile.check_one_expression(expression text, statement text, subject text) returns void
language plpgsql
set search_path = pg_catalog, domicile, pg_temp
set standard_conforming_strings = on
as $$
declare
    once refcursor;
    state text;
    message text;
begin
    if expression is null or btrim(expression) = '' then
        raise exception '% is empty', subject using errcode = '42601', hint = 'Write one expression over the columns of the row.';
    end if;
    if octet_length(expression) > 8192 then
        raise exception '% is longer than 8192 bytes', subject using errcode = '54000', hint = 'A mask is one expression over one row.';
    end if;
    -- EXECUTE would run all of `1) from t; drop table t; --`. A cursor takes one statement and never a CREATE VIEW, so
    -- opening one always fails, and the command's name in the message (it is not translated) says that it was one.
    begin
        open once for execute statement;
    exception when others then
        get stacked diagnostics state = returned_sqlstate, message = message_text;
    end;
    if state is distinct from '42P11' or message not like '%CREATE VIEW%' then
        raise exception '% is not one SQL expression%', subject,
            case when state = '42601' then ': ' || message else '' end
            using errcode = '42601', hint = 'Write one expression over the columns of the row, without a semicolon.';
    end if;
end
$$;
comment on function domicile.check_one_expression(text, text, text) is
'Nothing where statement, a CREATE VIEW made around the expression, is one statement; raises 42601 where it is several or none.';

create function domicile.analysed(rel regclass, expression text, subject text, printed_end text default null,
    out node jsonb, out canonical text, out type oid, out "collation" oid, out range_index int, out printed text)
language plpgsql
set search_path = pg_catalog, domicile, pg_temp
set standard_conforming_strings = on
as $$
declare
    probe text := format('domicile.mask_probe_%s', pg_backend_pid());
    frame text := format('domicile.mask_frame_%s', pg_backend_pid());
    statement text := format(E'create view %s as select (%s\n) as domicile_mask from %s t, (select) frame', probe, expression, rel);
    nodes_max constant int := 400;  -- some sixty calls: more would take long to walk, and much more exhaust the stack
    state text; message text; hint text;
    probe_tree jsonb; frame_tree jsonb; probe_text text;
begin
    if printed_end is null then
        perform domicile.check_one_expression(expression, statement, subject);
    end if;
    begin
        -- Domicile's own event triggers need not look at these views. The rollback takes the setting back as well.
        if to_regprocedure('domicile.settle_token()') is not null then
            perform set_config('domicile.settling', domicile.settle_token(), true);
        end if;
        execute statement;
        if printed_end is null
           and (select length(ev_action::text) - length(replace(ev_action::text, '{', '')) from pg_rewrite where ev_class = probe::regclass) > nodes_max then
            raise exception 'it has more than % parts', nodes_max using errcode = '54001', hint = 'A mask is one expression over one row: make it simpler.';
        end if;
        select domicile.node_tree(replace(ev_action::text, ' :relid ' || ev_class || ' ', ' :relid 0 '))
          into probe_tree from pg_rewrite where ev_class = probe::regclass;
        probe_text := domicile.view_text(probe::regclass);
        select atttypid, attcollation into type, "collation" from pg_attribute where attrelid = probe::regclass and attnum = 1;
        printed := printed_end;
        if printed is null then
            execute format('create view %s as select null::text as domicile_mask from %s t, (select) frame', frame, rel);
            select domicile.node_tree(replace(ev_action::text, ' :relid ' || ev_class || ' ', ' :relid 0 '))
              into frame_tree from pg_rewrite where ev_class = frame::regclass;
            printed := domicile.view_text(frame::regclass);
            printed := substr(printed, strpos(printed, ' AS domicile_mask'));
        end if;
        raise exception using errcode = 'DM001', message = 'the views were needed for a moment only';
    exception
        when sqlstate 'DM001' then null;
        when others then
            get stacked diagnostics state = returned_sqlstate, message = message_text, hint = pg_exception_hint;
            raise exception '% is refused: %', subject, message
                using errcode = state, hint = coalesce(nullif(hint, ''), case when state like '42%' then
                    'An expression sees the columns of its own row (as column or t.column), the functions of pg_catalog and those of domicile, no other name.'
                    else 'PostgreSQL could not read the expression: correct it.' end);
    end;
    node := probe_tree #> '{0,targetList,0,expr}';
    select n::int into range_index from jsonb_array_elements(probe_tree #> '{0,rtable}') with ordinality as r(entry, n)
        where entry #>> '{alias,aliasname}' = 't' and (entry ->> 'relid')::oid = rel;
    if right(probe_text, length(printed)) = printed then
        canonical := substr(probe_text, 9, length(probe_text) - 8 - length(printed));
    end if;
    -- All around the expression must be as it was written above, else the text has broken out of its brackets.
    if jsonb_array_length(probe_tree #> '{0,targetList}') <> 1
       or printed_end is null and probe_tree #- '{0,targetList}' is distinct from frame_tree #- '{0,targetList}' then
        canonical := null;
    end if;
end
$$;
comment on function domicile.analysed(regclass, text, text, text) is
'The analysed tree of an expression over one row of rel, its canonical text (columns as t.column; NULL where the text was more than one expression), its type and collation, the range table index of the row, and what is printed after the expression. That last, given as printed_end, says that the expression is not a user''s text but made of one that was analysed before. Executes nothing and leaves nothing behind. Raises PostgreSQL''s own error, with subject before it.';

create function domicile.node_type(node jsonb) returns oid
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
    select case node ->> 'node'
        when 'COLLATEEXPR' then domicile.node_type(node -> 'arg')
        when 'NAMEDARGEXPR' then domicile.node_type(node -> 'arg')
        when 'BOOLEXPR' then 16::oid when 'NULLTEST' then 16::oid when 'BOOLEANTEST' then 16::oid
        when 'SCALARARRAYOPEXPR' then 16::oid
        else coalesce(node ->> 'vartype', node ->> 'consttype', node ->> 'funcresulttype', node ->> 'opresulttype',
                      node ->> 'casetype', node ->> 'coalescetype', node ->> 'minmaxtype', node ->> 'array_typeid',
                      node ->> 'refrestype', node ->> 'typeId', node ->> 'resulttype')::oid
    end
$$;
comment on function domicile.node_type(jsonb) is 'The type of an expression node; NULL where the node is none.';

create function domicile.base_type(type oid) returns oid
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    with recursive chain(oid, typtype, base) as (
        select t.oid, t.typtype, t.typbasetype from pg_type t where t.oid = type
        union all
        select t.oid, t.typtype, t.typbasetype from pg_type t join chain c on t.oid = c.base where c.typtype = 'd'
    ) select oid from chain where typtype <> 'd'
$$;
comment on function domicile.base_type(oid) is 'The type below a domain; the type itself where it is none.';

create function domicile.nodes(node jsonb) returns setof jsonb
language sql immutable
set search_path = pg_catalog, pg_temp
as $$ select n from jsonb_path_query(node, 'strict $.** ? (exists(@.node))') as q(n) $$;
comment on function domicile.nodes(jsonb) is 'Every node of a tree, itself included.';

create function domicile.node_hides(node jsonb) returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select case
        when node ->> 'node' in ('CONST', 'NULLTEST') then true
        when node ->> 'node' in ('FUNCEXPR', 'OPEXPR', 'DISTINCTEXPR', 'SCALARARRAYOPEXPR') then
            exists (select from domicile.mask_functions f
                    where f.hides and f.function = coalesce((node ->> 'funcid')::oid,
                          (select o.oprcode from pg_operator o where o.oid = (node ->> 'opno')::oid)))
            -- A comparison tells one bit, which is all that a boolean has.
            and (node ? 'funcid' or not exists (
                select from jsonb_array_elements(node -> 'args') as a(arg) where domicile.node_type(arg) = 16))
        else false
    end
$$;
comment on function domicile.node_hides(jsonb) is 'True where no value gets unhidden from below a node to above it.';

create function domicile.shown_columns(node jsonb) returns int[]
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    with recursive walk(n) as (
        select node
        union all
        select child.value
        from walk w cross join lateral (
            select e.value from jsonb_array_elements(case jsonb_typeof(w.n) when 'array' then w.n else '[]' end) e
            union all
            select e.value from jsonb_each(case
                when jsonb_typeof(w.n) <> 'object' then '{}'
                when w.n ->> 'node' = 'NULLIFEXPR' then jsonb_build_object('shown', w.n #> '{args,0}')
                else w.n end) e
        ) child
        where jsonb_typeof(child.value) in ('object', 'array') and (w.n ->> 'node' is null or not domicile.node_hides(w.n))
    )
    select coalesce(array_agg(distinct (n ->> 'varattno')::int), '{}') from walk where n ->> 'node' = 'VAR'
$$;
comment on function domicile.shown_columns(jsonb) is
'Attribute numbers of the columns whose value may reach the result of the expression unhidden: on some path from the column to the root stands no function that hides.';

create function domicile.argument(call jsonb, name text, place int) returns jsonb
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
    select coalesce(arg -> 'arg', arg) from jsonb_path_query(call, '$.args[*]') with ordinality as a(arg, i)
    where case when arg ->> 'node' = 'NAMEDARGEXPR' then arg ->> 'name' = argument.name else i = place end
$$;
comment on function domicile.argument(jsonb, text, int) is 'An argument of a call, by name or place; NULL where it is left out.';

create function domicile.text_constant(node jsonb) returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
    -- "9 [ 36 0 0 0 121 101 97 114 … ]": the length, then signed bytes, four of them a header.
    select convert_from(decode(string_agg(lpad(to_hex(byte::int & 255), 2, '0'), '' order by i), 'hex'), getdatabaseencoding())
    from regexp_matches(substring(node ->> 'constvalue' from '\[.*\]'), '-?\d+', 'g') with ordinality as b(m, i),
         unnest(m) as byte
    where node ->> 'node' = 'CONST' and (node ->> 'consttype')::oid = 'text'::regtype and i > 4
$$;
comment on function domicile.text_constant(jsonb) is 'The value of a text constant that is not empty; NULL for any other node.';

create function domicile.argument_problem(call jsonb, name name, first_type oid, out problem text, out advice text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    given jsonb;
    word text;
begin
    if name in ('pseudonym', 'fake') then
        given := domicile.argument(call, 'domain', case name when 'fake' then 3 else 2 end);
        if given is not null and domicile.text_constant(given) is null then
            problem := 'does not name the domain by a constant';
            advice := 'Write domain => ''person'', or leave it out for the column''s own.';
        end if;
    end if;
    -- What these don't know they answer with NULL: that is safe, and seldom what was meant.
    if name = 'fake' then
        word := domicile.text_constant(domicile.argument(call, 'kind', 2));
        if word is not null and domicile.fake_pick(sha256(''), word) is null then
            problem := format('asks for a fake %L', word);
            advice := 'There are fakes of kind name, email and city.';
        end if;
    elsif name = 'generalize' then
        word := domicile.text_constant(domicile.argument(call, 'unit', 2));
        if word is not null and (domicile.unit_length(word) is null
                or word in ('hour', 'day') and first_type in ('date'::regtype, 'daterange'::regtype)) then
            problem := format('generalizes to %L', word);
            advice := case when first_type in ('date'::regtype, 'daterange'::regtype) then '' else 'hour, day, ' end
                || 'week, month, quarter, year, decade and century are known.';
        end if;
    end if;
end
$$;
comment on function domicile.argument_problem(jsonb, name, oid) is
'What is wrong with the constants in a call of a mask function, and the way out; NULLs where nothing is.';

create function domicile.check_nodes(rel regclass, node jsonb, range_index int, own_type oid, subject text) returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    -- Types whose text form follows no setting.
    plain constant oid[] := array['bool', 'int2', 'int4', 'int8', 'numeric', 'text', 'varchar', 'bpchar', 'uuid', 'inet',
                                  'cidr', 'macaddr', 'bit', 'varbit', 'json', 'jsonb', 'oid']::regtype[]::oid[];
    texts constant oid[] := array['text', 'varchar', 'bpchar']::regtype[]::oid[];
    raises boolean := false;
    n jsonb;
    kind text;
    problem text;
    advice text;
    source oid;
    target oid;
    called record;
begin
    -- Casts by way of text last: what is below them is the likelier mistake.
    for n in select d from domicile.nodes(node) with ordinality as r(d, i) order by d ->> 'node' = 'COERCEVIAIO', i loop
        kind := n ->> 'node';
        problem := null;
        advice := 'A mask computes from its own row with the functions that domicile.mask_functions lists.';
        case
        when kind = 'VAR' then
            if (n ->> 'varno')::int <> range_index or n ->> 'varlevelsup' <> '0' then
                problem := 'reads something other than its row';
            elsif (n ->> 'varattno')::int = 0 then
                problem := 'takes the whole row';
                advice := 'Name the columns.';
            elsif (n ->> 'varattno')::int < 0 then
                problem := format('reads the system column %I', (select attname from pg_attribute
                    where attrelid = rel and attnum = (n ->> 'varattno')::int));
                advice := 'System columns tell of storage and change without notice.';
            end if;
        when kind in ('CONST', 'BOOLEXPR', 'NULLTEST', 'BOOLEANTEST', 'CASEEXPR', 'CASEWHEN', 'CASETESTEXPR',
                      'COALESCEEXPR', 'ARRAYEXPR', 'NAMEDARGEXPR', 'COLLATEEXPR', 'RELABELTYPE', 'ARRAYCOERCEEXPR',
                      'FIELDSELECT') then
            null;
        when kind in ('FUNCEXPR', 'OPEXPR', 'DISTINCTEXPR', 'NULLIFEXPR', 'SCALARARRAYOPEXPR') then
            select p.oid, p.oid::regprocedure::text as name, p.proname, p.pronamespace, p.provolatile, p.proretset, p.prorettype, p.proargtypes[0] as first_type, o.oprname
              into strict called
              from pg_proc p left join pg_operator o on o.oid = (n ->> 'opno')::oid
             where p.oid = coalesce((n ->> 'funcid')::oid, o.oprcode);
            -- Casts of an array's elements have no collation, and need none.
            if n ->> 'inputcollid' = '0' and coalesce(n ->> 'funcformat', '0') = '0' and exists (select from jsonb_path_query(n, '$.args[*]') as a(arg)
                    join pg_type t on t.oid = domicile.node_type(arg) where t.typcollation <> 0) then
                problem := format('gives %s texts of two collations', called.name);
                advice := 'Say which one counts, by COLLATE after one of them.';
            elsif exists (select from domicile.mask_functions f where f.function = called.oid) then
                raises := raises or (select f.raises from domicile.mask_functions f where f.function = called.oid);
                if called.pronamespace = 'domicile'::regnamespace then
                    select * into problem, advice from domicile.argument_problem(n, called.proname, called.first_type);
                end if;
            else
                problem := format(case when called.oprname is null then 'calls %s' else 'uses the operator %2$s, which calls %1$s' end,
                                  called.name, called.oprname);
                problem := problem || case
                    when called.proretset then ', which returns a set'
                    when called.provolatile <> 'i' then ', which is not immutable'
                    else ', a function outside the list' end;
                advice := case
                    when called.pronamespace <> 'pg_catalog'::regnamespace then
                        'A function outside pg_catalog could be replaced by its owner. domicile.mask_functions lists what a mask may use.'
                    when called.proname ~ '^(md5|sha|hash|crc)' then
                        'A hash without a key is undone by trying all values. Use domicile.pseudonym.'
                    when called.proname ~ 'regex|similar' or called.proname = 'substring' then
                        'The run time of a regular expression over a value has no bound. Use LIKE, split_part, domicile.partial or domicile.partial_email.'
                    when called.proname in ('concat', 'concat_ws', 'format', 'textanycat', 'anytextcat') then
                        'It prints any type by the session''s settings. Use || over text, with casts where needed.'
                    when called.proname in ('now', 'random', 'clock_timestamp', 'statement_timestamp', 'timeofday', 'gen_random_uuid') then
                        'A mask must give the same value whenever it is read. domicile.noise is fixed for each row.'
                    when called.prorettype in ('date'::regtype, 'timestamp'::regtype, 'timestamptz'::regtype) then
                        'Use domicile.generalize for dates and times. domicile.mask_functions lists what a mask may use.'
                    else 'select signature from domicile.mask_functions lists what a mask may use.' end;
            end if;
        when kind = 'MINMAXEXPR' then
            target := domicile.base_type((n ->> 'minmaxtype')::oid);
            if not exists (select from pg_type t where t.oid = target and (t.typtype = 'e' or t.oid < 16384 and t.typtype = 'b' and t.typelem = 0)) then
                problem := format('compares values of type %s by GREATEST or LEAST', format_type(target, null));
                advice := 'Only built-in scalar types and enums may be compared.';
            end if;
        when kind = 'COERCEVIAIO' then
            source := domicile.base_type(domicile.node_type(n -> 'arg'));
            target := (n ->> 'resulttype')::oid;
            if not exists (select from pg_type t where t.oid = source and (t.typtype = 'e' or t.oid = any (plain)))
               or not exists (select from pg_type t where t.oid = target and (t.typtype = 'e' or t.oid = any (plain))) then
                problem := format('casts %s to %s by way of text', format_type(source, null), format_type(target, null));
                advice := 'The text form of that type follows settings of the session, which a foreign role may change. Use domicile.generalize for dates and times, domicile.redact for anything.';
            end if;
            raises := raises or target <> all (texts);
        when kind = 'COERCETODOMAIN' then
            if (n ->> 'resulttype')::oid is distinct from own_type then
                problem := format('casts to the domain %s', (n ->> 'resulttype')::oid::regtype);
                advice := 'The CHECK of a domain runs functions. Cast to the type below it.';
            else
                perform domicile.check_domain(own_type, subject);
            end if;
            raises := true;
        when kind = 'SUBSCRIPTINGREF' then
            if not exists (select from pg_type t where t.oid = (n ->> 'refcontainertype')::oid
                and t.typsubscript in ('array_subscript_handler'::regproc, 'raw_array_subscript_handler'::regproc, 'jsonb_subscript_handler'::regproc)) then
                problem := format('takes a part of a %s by subscript', (n ->> 'refcontainertype')::oid::regtype);
                advice := 'Only arrays and jsonb may be subscripted.';
            end if;
        else
            problem := 'holds ' || case kind
                when 'SUBLINK' then 'a sub-query' when 'AGGREF' then 'an aggregate' when 'WINDOWFUNC' then 'a window function'
                when 'GROUPINGFUNC' then 'GROUPING' when 'ROWEXPR' then 'a row constructor' when 'ROWCOMPAREEXPR' then 'a comparison of rows'
                when 'SQLVALUEFUNCTION' then 'CURRENT_USER, CURRENT_DATE or one of their kind' when 'XMLEXPR' then 'an XML constructor'
                when 'PARAM' then 'a parameter' when 'NEXTVALUEEXPR' then 'a sequence' when 'CONVERTROWTYPEEXPR' then 'a cast of a row'
                else case when kind like 'JSON%' then 'a JSON constructor' else 'the construct ' || coalesce(kind, 'unknown') end end;
        end case;
        if problem is not null then
            raise exception '% is refused: it %', subject, problem using errcode = '42P17', hint = advice;
        end if;
    end loop;
    return raises;
end
$$;
comment on function domicile.check_nodes(regclass, jsonb, int, oid, text) is
'True where the expression may raise, false where it can''t; raises 42P17 on the first construct that is not allowed. own_type: the one domain that may be cast to.';

create function domicile.check_domain(type oid, subject text) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    if not domicile.harmless_domain(type) then
        raise exception '% is refused: the CHECK of the domain % calls a function outside pg_catalog or one that is not immutable',
            subject, type::regtype using errcode = '42P17', hint = 'Leave the column out of the policy: it is then withheld. Or change its type.';
    end if;
end
$$;
comment on function domicile.check_domain(oid, text) is 'Nothing where a domain''s CHECKs are harmless; raises 42P17 where not.';

create function domicile.harmless_domain(type oid) returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    with recursive chain(oid, base, typtype) as (
        select t.oid, t.typbasetype, t.typtype from pg_type t where t.oid = type
        union all
        select t.oid, t.typbasetype, t.typtype from pg_type t join chain c on t.oid = c.base where c.typtype = 'd'
    )
    select not exists (
        select from chain c
        join pg_constraint k on k.contypid = c.oid
        cross join lateral domicile.nodes(domicile.node_tree(k.conbin::text)) as d(n)
        left join pg_operator o on o.oid = (d.n ->> 'opno')::oid
        left join pg_proc p on p.oid = coalesce((d.n ->> 'funcid')::oid, o.oprcode)
        where d.n ->> 'node' not in ('COERCETODOMAINVALUE', 'CONST', 'BOOLEXPR', 'NULLTEST', 'BOOLEANTEST', 'CASEEXPR', 'CASEWHEN',
            'CASETESTEXPR', 'COALESCEEXPR', 'ARRAYEXPR', 'COLLATEEXPR', 'RELABELTYPE', 'FUNCEXPR', 'OPEXPR', 'DISTINCTEXPR',
            'NULLIFEXPR', 'SCALARARRAYOPEXPR')
           or p.oid is not null and (p.oid >= 16384 or p.provolatile <> 'i'))
$$;
comment on function domicile.harmless_domain(oid) is
'True where every CHECK of a domain, and of the domains below it, calls immutable functions of pg_catalog alone.';

-- Masks -----------------------------------------------------------------------------------------------------------------

create function domicile.check_mask_parts(rel regclass, column_name text, expression text,
    out class text, out canonical text, out raises boolean, out shown int[], out used int[], out keyed bigint, out printed text)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    subject text := format('mask of column %I of table %s', column_name, rel);
    col pg_attribute;
    own_base oid;
    plain record;
    cast_to record;
    root jsonb;
    inner_node jsonb;
    pseudonym_of_own boolean := false;
    mask_base oid;
    room int;
    key_name text;
    is_null boolean;
begin
    select a.* into col from pg_attribute a
        where a.attrelid = rel and a.attname = column_name and a.attnum > 0 and not a.attisdropped;
    if not found then
        raise exception 'column "%" of table % does not exist', column_name, rel using errcode = '42703',
            hint = 'The columns are ' || (select string_agg(quote_ident(a.attname), ', ' order by a.attnum) from pg_attribute a
                where a.attrelid = rel and a.attnum > 0 and not a.attisdropped) || '.';
    end if;
    own_base := domicile.base_type(col.atttypid);
    select * into plain from domicile.analysed(rel, expression, subject);
    raises := domicile.check_nodes(rel, plain.node, plain.range_index, col.atttypid, subject);
    shown := domicile.shown_columns(plain.node);
    if col.attnum = any (shown) then
        raise exception '% shows the column''s own value', subject using errcode = '42P17',
            detail = 'The value can reach the result without passing a function that hides it.',
            hint = format('To show it, name it in CLEAR (%I). To hide it, pass it through a function of the domicile schema, such as domicile.partial or domicile.pseudonym.', column_name);
    end if;
    if plain.canonical is null then
        raise exception '% is not one expression', subject using errcode = '42601',
            hint = 'Write one expression over the columns of the row.';
    end if;

    -- The type is the column's own, or becomes it the way an assignment would.
    mask_base := domicile.base_type(plain.type);
    is_null := plain.node @> '{"node": "CONST", "constisnull": "true"}';
    if mask_base <> own_base and not is_null
       and not exists (select from pg_cast c where c.castsource = mask_base and c.casttarget = own_base and c.castcontext <> 'e') then
        raise exception '% is of type %, the column is of type %', subject, format_type(plain.type, null), format_type(col.atttypid, col.atttypmod)
            using errcode = '42804',
            hint = case when mask_base = 'text'::regtype then 'Write a constant of the column''s type, or cast the result.'
                when own_base in ('date'::regtype, 'timestamp'::regtype, 'timestamptz'::regtype) then 'domicile.generalize keeps the type of dates and times.'
                else 'Cast the result to the column''s type.' end;
    end if;
    select * into cast_to from domicile.analysed(rel,
        format('(%s)::%s', case when is_null then 'null' else plain.canonical end, domicile.type_text(col.atttypid, col.atttypmod)),
        subject, plain.printed);
    raises := domicile.check_nodes(rel, cast_to.node, cast_to.range_index, col.atttypid, subject);
    if cast_to.canonical is null then
        raise exception '% is not one expression', subject using errcode = '42601',
            hint = 'Write one expression over the columns of the row.';
    end if;
    -- Where a mask can't answer it answers NULL. The domain's CHECKs, if they are harmless, are asked whether it may.
    if col.atttypid <> own_base then
        perform domicile.check_domain(col.atttypid, subject);
        begin
            execute format('select null::%s', domicile.type_text(col.atttypid, null));
        exception when not_null_violation or check_violation then
            raise exception '% is refused: the domain % forbids NULL, which a mask gives where it can''t compute', subject, col.atttypid::regtype
                using errcode = '42P17', hint = 'Leave the column out of the policy: it is then withheld. Or change its type.';
        end;
    end if;
    canonical := cast_to.canonical;
    printed := plain.printed;
    keyed := domicile.keyed_calls(cast_to.node);
    used := array(select distinct (n ->> 'varattno')::int from domicile.nodes(cast_to.node) n where n ->> 'node' = 'VAR' order by 1);

    -- Class: a pseudonym straight of the column itself keeps equal and unequal apart, nothing else is known to.
    root := plain.node;
    while root ->> 'node' = 'RELABELTYPE' loop
        root := root -> 'arg';
    end loop;
    class := 'lossy';
    if root ->> 'node' = 'FUNCEXPR' and exists (select from pg_proc p where p.oid = (root ->> 'funcid')::oid
                                                and p.proname = 'pseudonym' and p.pronamespace = 'domicile'::regnamespace) then
        inner_node := root #> '{args,0}';
        while inner_node ->> 'node' in ('RELABELTYPE', 'NAMEDARGEXPR')
           or inner_node @> jsonb_build_object('node', 'FUNCEXPR', 'funcid', 'pg_catalog.text(bpchar)'::regprocedure::oid::text) loop
            inner_node := coalesce(inner_node -> 'arg', inner_node #> '{args,0}');
        end loop;
        pseudonym_of_own := inner_node ->> 'node' = 'VAR' and (inner_node ->> 'varattno')::int = col.attnum;
        if pseudonym_of_own then
            class := case when (root ->> 'funcresulttype')::oid in ('int4'::regtype, 'int8'::regtype) then 'collision-possible' else 'preserved' end;
        end if;
        room := case when own_base in ('varchar'::regtype, 'bpchar'::regtype) and col.atttypmod > 4 then col.atttypmod - 4 end;
        if room < 32 then
            raise exception '% does not fit: a pseudonym has 32 characters, the column %', subject, room
                using errcode = '42P17', hint = 'Make the column longer, or use domicile.partial or domicile.redact.';
        end if;
    end if;
    if class <> 'preserved' then
        key_name := domicile.key_over(rel, col.attnum);
        if key_name is not null then
            raise exception '% is %, which % does not allow', subject, class, key_name using errcode = '42P17',
                detail = 'Two rows may get one value, so that keys would repeat and joins go wrong.',
                hint = format('Use domicile.pseudonym(%I) where the type is text, uuid or bytea, or name the column in CLEAR, or leave it out: it is then withheld.', column_name);
        end if;
    end if;
end
$$;
comment on function domicile.check_mask_parts(regclass, text, text) is
'All that is known of a mask: its class, its canonical text cast to the column''s type, whether it may raise, the columns that it shows unhidden, and those that it reads. Raises as domicile.check_mask does.';

create function domicile.keyed_calls(node jsonb) returns bigint
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select count(*) from domicile.nodes(node) n join domicile.mask_functions f on f.function = (n ->> 'funcid')::oid where f.keyed
$$;
comment on function domicile.keyed_calls(jsonb) is 'How many calls of keyed mask functions an expression holds.';

create function domicile.type_text(type oid, typmod int) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$ select format_type(type, typmod) $$;
comment on function domicile.type_text(oid, int) is 'The type''s name as SQL, qualified where it is not of pg_catalog.';

create function domicile.key_over(rel regclass, attnum smallint) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select name from (
        select case c.contype when 'p' then 'the primary key ' when 'u' then 'the unique constraint ' else 'the foreign key ' end
               || quote_ident(c.conname)
               || case when c.conrelid <> rel then ' of table ' || c.conrelid::regclass else '' end as name
        from pg_constraint c
        where c.conrelid = rel and c.contype in ('p', 'u', 'f') and key_over.attnum = any (c.conkey)
           or c.confrelid = rel and c.contype = 'f' and key_over.attnum = any (c.confkey)
        union all
        select 'the unique index ' || quote_ident(i.indexrelid::regclass::text)
        from pg_index i
        where i.indrelid = rel and i.indisunique
          and (key_over.attnum = any (i.indkey)
               or exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = i.indexrelid
                          and d.refclassid = 'pg_class'::regclass and d.refobjid = rel and d.refobjsubid = key_over.attnum))
    ) k order by name collate "C" limit 1
$$;
comment on function domicile.key_over(regclass, smallint) is
'The first primary key, UNIQUE or FOREIGN KEY constraint (from it or to it) or unique index that the column has part in, in words; NULL where there is none.';

create function domicile.check_mask(rel regclass, column_name text, expression text, clear text[] default '{}') returns text
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    checked record;
    bare text;
begin
    select * into checked from domicile.check_mask_parts(rel, column_name, expression);
    select c into bare from unnest(domicile.column_names(rel, checked.shown)) c where c <> all (coalesce(clear, '{}'));
    if found then
        raise exception 'mask of column % of table % shows the value of column %', quote_ident(column_name), rel, quote_ident(bare)
            using errcode = '42P17', detail = 'The value can reach the result without passing a function that hides it, and is not CLEAR in the same policy.',
            hint = format('Name %I in CLEAR, or pass it through a function of the domicile schema, such as domicile.partial or domicile.pseudonym.', bare);
    end if;
    return checked.class;
end
$$;
comment on function domicile.check_mask(regclass, text, text, text[]) is
'The class of a mask expression: preserved (equal stays equal, different stays different), collision-possible (different values may meet, rarely) or lossy. Raises 42P17 where the expression is refused, the analyser''s own SQLSTATE where it makes no sense, 42804 where its type does not become the column''s. clear: the columns that the same policy shows in clear, the only ones whose values the mask may let through unhidden. The message names column and table; the HINT says the way out. Reads no row, and needs a transaction that may write.';

create function domicile.column_names(rel regclass, attnums int[]) returns text[]
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select coalesce(array_agg(a.attname::text order by a.attnum), '{}') from pg_attribute a
    where a.attrelid = rel and a.attnum = any (attnums)
$$;
comment on function domicile.column_names(regclass, int[]) is 'Names of columns by their numbers, in catalog order.';

create function domicile.mask_columns(rel regclass, expression text) returns text[]
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    subject text := format('expression over table %s', rel);
    a record;
begin
    select * into a from domicile.analysed(rel, expression, subject);
    perform domicile.check_nodes(rel, a.node, a.range_index, null, subject);
    if a.canonical is null then
        raise exception '% is not one expression', subject using errcode = '42601', hint = 'Write one expression over the columns of the row.';
    end if;
    return domicile.column_names(rel, array(select (n ->> 'varattno')::int from domicile.nodes(a.node) n where n ->> 'node' = 'VAR'));
end
$$;
comment on function domicile.mask_columns(regclass, text) is
'All columns that an expression reads, in catalog order. A mask whose columns include a TOASTable one other than its own must have its table''s full old image in the stream.';

create function domicile.mask_shown_columns(rel regclass, expression text) returns text[]
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    subject text := format('expression over table %s', rel);
    a record;
begin
    select * into a from domicile.analysed(rel, expression, subject);
    perform domicile.check_nodes(rel, a.node, a.range_index, null, subject);
    if a.canonical is null then
        raise exception '% is not one expression', subject using errcode = '42601', hint = 'Write one expression over the columns of the row.';
    end if;
    return domicile.column_names(rel, domicile.shown_columns(a.node));
end
$$;
comment on function domicile.mask_shown_columns(regclass, text) is
'The columns whose value an expression may show unhidden: email = lower(name) shows name. domicile.check_mask accepts a mask only where each of these is CLEAR in the same policy.';

create function domicile.mask_domain(rel regclass, column_name text) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    -- Follow foreign keys to the column that all of them refer to, ten steps at most, never twice through one column.
    with recursive step(rel, attnum, depth, seen) as (
        select a.attrelid::oid, a.attnum, 0, array[a.attrelid::text || '.' || a.attnum]
        from pg_attribute a where a.attrelid = mask_domain.rel and a.attname = column_name and not a.attisdropped
        union all
        select target.confrelid, target.attnum, s.depth + 1, s.seen || (target.confrelid::text || '.' || target.attnum)
        from step s cross join lateral (
            select c.confrelid, c.confkey[array_position(c.conkey, s.attnum)] as attnum
            from pg_constraint c
            where c.contype = 'f' and c.conrelid = s.rel and s.attnum = any (c.conkey) and c.conparentid = 0
            order by c.conname collate "C" limit 1
        ) target
        where s.depth < 10 and not (target.confrelid::text || '.' || target.attnum) = any (s.seen)
    )
    select n.nspname || '.' || c.relname || '.' || a.attname
    from step s join pg_class c on c.oid = s.rel join pg_namespace n on n.oid = c.relnamespace
    join pg_attribute a on a.attrelid = s.rel and a.attnum = s.attnum
    order by s.depth desc limit 1
$$;
comment on function domicile.mask_domain(regclass, text) is
'The key domain of keyed masks of a column where the policy names none: schema.table.column, of the column itself or, through foreign keys, of the one that it refers to in the end, so that pseudonyms stay joinable.';

-- What stands in a view --------------------------------------------------------------------------------------------------

create function domicile.sql_tokens(canonical text) returns text[]
language sql immutable strict
set search_path = pg_catalog, pg_temp
as $$
    -- Enough for the text that pg_get_viewdef prints, which holds no comments, no dollar quotes, no \' in strings, and
    -- no backslash outside strings and quoted names, where it marks the place of a key (domicile.with_keys).
    select array_agg(m[1] order by n)
    from regexp_matches(canonical, '(''(?:[^'']|'''')*''|"(?:[^"]|"")*"|\\(?:inner|outer) \d+\\|[[:alpha:]_][[:alnum:]_$]*|=>|\s+|.)', 'g')
         with ordinality as r(m, n)
$$;
comment on function domicile.sql_tokens(text) is 'Canonical SQL text cut into tokens; joined again they give the text.';

create function domicile.row_identity(rel regclass, subject text) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    part record;
    parts text[] := '{}';
begin
    for part in
        select a.attname, domicile.base_type(a.atttypid) as base, t.typtype
        from pg_index i cross join lateral unnest(i.indkey) with ordinality as k(attnum, n)
        join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
        join pg_type t on t.oid = domicile.base_type(a.atttypid)
        where i.indrelid = rel and i.indisprimary order by k.n
    loop
        parts := parts || case
            when part.typtype = 'e' or part.base in ('int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'numeric'::regtype,
                'uuid'::regtype, 'text'::regtype, 'varchar'::regtype, 'bpchar'::regtype, 'bool'::regtype)
                then format('(t.%I)::text', part.attname)
            when part.base = 'date'::regtype then format('(t.%I - ''2000-01-01''::date)::text', part.attname)
            when part.base = 'timestamp'::regtype then format('(extract(epoch from t.%I))::text', part.attname)
            when part.base = 'timestamptz'::regtype then format('(extract(epoch from timezone(''UTC'', t.%I)))::text', part.attname)
        end;
        if parts[cardinality(parts)] is null then
            raise exception '% uses noise, but the primary key column % is of type %', subject, quote_ident(part.attname), format_type(part.base, null)
                using errcode = '42P17', hint = 'Noise is fixed by the primary key, of whole numbers, uuid, text, dates or times. Use domicile.generalize.';
        end if;
    end loop;
    if parts = '{}' then
        raise exception '% uses noise, but the table has no primary key', subject
            using errcode = '42P17', hint = 'Noise is fixed by the primary key, else averaging would undo it. Add one, or use domicile.generalize.';
    end if;
    return array_to_string(parts, ' || ''/'' || ');
end
$$;
comment on function domicile.row_identity(regclass, text) is
'The primary key of a row as one text expression over t that no setting changes. Raises 42P17 where there is none.';

create function domicile.with_keys(rel regclass, column_name text, canonical text, subject text,
    out expanded text, out domains text[])
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    tokens text[] := domicile.sql_tokens(canonical);
    names text[];
    args text[];
    label text;
    depth int;
    at int;
    stop int;
    domain text;
    made text;
begin
    domains := '{}';
    -- From the right, so that a call within another's arguments is done first. In place of a key stands a mark that no
    -- printed SQL holds, \inner n\ or \outer n\, n counting domains.
    loop
        select max(i) into at from generate_subscripts(tokens, 1) i
            where tokens[i:i + 1] = array['domicile', '.'] and tokens[i + 2] in ('pseudonym', 'noise', 'fake') and tokens[i + 3] = '(';
        exit when at is null;
        names := case tokens[at + 2] when 'pseudonym' then array['value', 'domain'] when 'noise' then array['value', 'spread']
                 else array['value', 'kind', 'domain'] end;
        args := array_fill(null::text, array[3]);
        depth := 1;
        stop := at + 4;
        made := '';
        label := names[1];
        while depth > 0 loop
            if tokens[stop] in ('(', '[') then
                depth := depth + 1;
            elsif tokens[stop] in (')', ']') then
                depth := depth - 1;
            end if;
            if depth = 0 or depth = 1 and tokens[stop] = ',' then
                args[array_position(names, label)] := btrim(made);
                label := names[array_position(names, label) + 1];
                made := '';
            elsif depth = 1 and tokens[stop] = '=>' then
                label := btrim(made);
                made := '';
            else
                made := made || tokens[stop];
            end if;
            stop := stop + 1;
        end loop;
        domain := domicile.mask_domain(rel, column_name);
        made := args[array_position(names, 'domain')];
        if made is not null then
            if made !~ '^''([^''\\]|'''')+''::text$' then
                raise exception '% does not name the domain by a plain constant', subject using errcode = '42P17',
                    hint = 'Write domain => ''person''.';
            end if;
            domain := replace(substr(made, 2, length(made) - 8), '''''', '''');
        end if;
        if not domain = any (domains) then
            domains := domains || domain;
        end if;
        made := format('domicile.%s_with(%s, %s\inner %s\, \outer %4$s\)', tokens[at + 2], args[1],
            case tokens[at + 2]
                when 'noise' then args[2] || ', ' || domicile.row_identity(rel, subject) || ', '
                when 'fake' then args[2] || ', ' else '' end,
            array_position(domains, domain));
        tokens := tokens[:at - 1] || domicile.sql_tokens(made) || tokens[stop:];
    end loop;
    expanded := array_to_string(tokens, '');
end
$$;
comment on function domicile.with_keys(regclass, text, text, text) is
'A canonical mask with its keyed functions in the form that takes a key, marks in the places of the keys, and the domains that the marks count.';

create function domicile.key_text(domain text, pad text) returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$ select format('(select k.%I from domicile.mask_key k where k.domain = %L)', pad, domain) $$;
comment on function domicile.key_text(text, text) is 'The scalar subquery that reads one pad of a domain''s key as the views'' owner.';

create function domicile.put_keys(expanded text, inner_keys text[], outer_keys text[]) returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
    select string_agg(case when token like '\\inner %' then inner_keys[substring(token from '\d+')::int]
                           when token like '\\outer %' then outer_keys[substring(token from '\d+')::int]
                           else token end, '' order by n)
    from unnest(domicile.sql_tokens(expanded)) with ordinality as r(token, n)
$$;
comment on function domicile.put_keys(text, text[], text[]) is
'The text of domicile.with_keys with the n-th texts in the places of its n-th marks.';

create function domicile.wrapped(rel regclass, column_name text, expanded text, domains text[], used int[], result text) returns text
language plpgsql
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
    superuser boolean;
    name text := 'mask_' || left(md5(concat_ws(E'\n', rel::oid, column_name, expanded, result, domains::text, used::text)), 20);
    tokens text[] := domicile.sql_tokens(expanded);
    body text := '';
    parameters text[] := '{}';
    arguments text[] := '{}';
    inner_keys text[] := '{}';
    outer_keys text[] := '{}';
    col record;
    place int;
    i int := 1;
begin
    for col in select a.attname, a.atttypid from pg_attribute a where a.attrelid = rel and a.attnum = any (used) order by a.attnum loop
        parameters := parameters || domicile.type_text(col.atttypid, null);
        arguments := arguments || format('t.%I', col.attname);
    end loop;
    while i <= cardinality(tokens) loop
        place := array_position(arguments, 't.' || tokens[i + 2]);
        if tokens[i] = 't' and tokens[i + 1] = '.' and place is not null
           and coalesce(tokens[i - 1], '') not in ('.', ':') and tokens[i - 2] is distinct from 'COLLATE' then
            body := body || '$' || place;
            i := i + 3;
        else
            body := body || tokens[i];
            i := i + 1;
        end if;
    end loop;
    for i in 1 .. cardinality(domains) loop
        inner_keys := inner_keys || ('$' || cardinality(parameters) + 1);
        outer_keys := outer_keys || ('$' || cardinality(parameters) + 2);
        parameters := parameters || '{bytea,bytea}'::text[];
        arguments := arguments || domicile.key_text(domains[i], 'inner_pad') || domicile.key_text(domains[i], 'outer_pad');
    end loop;
    body := domicile.put_keys(body, inner_keys, outer_keys);
    -- The name is a digest of all that the function is made of: where it exists, it is this one.
    if not exists (select from pg_proc p where p.pronamespace = 'domicile'::regnamespace and p.proname = name) then
        -- Parallel unsafe: an exception block is a subtransaction. The body is read anew in each session, by its settings.
        -- Run as the views' owner: who reads a view has no USAGE on this schema, so that a function named in the body would
        -- raise for every row, and NULL would be the answer to all.
        execute format('create function domicile.%I(%s) returns %s language plpgsql immutable parallel unsafe security definer '
                       'set search_path = pg_catalog, pg_temp %s as %L', name, array_to_string(parameters, ', '),
                       (select domicile.type_text(coalesce(a.atttypid, 'bool'::regtype), null)
                        from (select) one left join pg_attribute a on a.attrelid = rel and a.attname = column_name),
                       case when strpos(body, '\') > 0 then 'set standard_conforming_strings = on' else '' end,
                       format('begin return %s; exception when others then return null; end', body));
        select r.rolsuper into superuser from pg_roles r where r.rolname = current_user;
        if not superuser then
            grant create on schema domicile to domicile_views;
        end if;
        execute format('alter function domicile.%I(%s) owner to domicile_views', name, array_to_string(parameters, ', '));
        if not superuser then
            revoke create on schema domicile from domicile_views;
        end if;
        insert into domicile.mask_wrapper (name, relation, column_name, expression) values (name, rel, column_name, expanded)
            on conflict on constraint mask_wrapper_pkey do nothing;
    end if;
    return format('domicile.%I(%s)', name, array_to_string(arguments, ', '));
end
$$;
comment on function domicile.wrapped(regclass, text, text, text[], int[], text) is
'A call of a function domicile.mask_…, made here and recorded in domicile.mask_wrapper, that computes the expression and answers NULL where it raises. Like the mask functions it is executable by PUBLIC, so that views may compute it for any role, and reads nothing but its arguments.';

create function domicile.ready(rel regclass, column_name text, canonical text, raises boolean, used int[], keyed bigint,
    printed text, result text, collation_wanted oid, subject text) returns text
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    marked record;
    expression text;
    after record;
begin
    select * into marked from domicile.with_keys(rel, column_name, canonical, subject);
    insert into domicile.mask_key (domain) select unnest(marked.domains) on conflict do nothing;
    if marked.expanded like '%domicile.noise\_with(%' then
        used := used || array(select k::int from pg_index x, unnest(x.indkey) k where x.indrelid = rel and x.indisprimary);
    end if;
    if raises then
        expression := domicile.wrapped(rel, column_name, marked.expanded, marked.domains, used, result);
    else
        expression := domicile.put_keys(marked.expanded,
            array(select domicile.key_text(d, 'inner_pad') from unnest(marked.domains) with ordinality as r(d, n) order by n),
            array(select domicile.key_text(d, 'outer_pad') from unnest(marked.domains) with ordinality as r(d, n) order by n));
    end if;
    expression := format('(%s)::%s', expression, result);
    -- Read back what was written: each keyed call has got its two keys, and none is left without.
    select * into after from domicile.analysed(rel, expression, subject, printed);
    if after.canonical is null
       or (select count(*) from domicile.nodes(after.node) n where n ->> 'node' = 'SUBLINK')
          <> 2 * (case when raises then cardinality(marked.domains) else keyed end)
       or domicile.keyed_calls(after.node) > 0 then
        raise exception '% could not be given its keys', subject using errcode = 'XX000',
            detail = 'The expression read back differs from the one written.', hint = 'This is a fault of Domicile: please report the expression.';
    end if;
    return expression || coalesce((
        select format(' collate %I.%I', n.nspname, c.collname)
        from pg_collation c join pg_namespace n on n.oid = c.collnamespace
        where c.oid = collation_wanted and c.oid <> after."collation"), '');
end
$$;
comment on function domicile.ready(regclass, text, text, boolean, int[], bigint, text, text, oid, text) is
'A canonical expression with keys supplied, wrapped where it may raise, cast to its result type and given its collation, and read back.';

create function domicile.wrap_mask(rel regclass, column_name text, expression text) returns text
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    checked record;
    col record;
begin
    select * into checked from domicile.check_mask_parts(rel, column_name, expression);
    select domicile.type_text(a.atttypid, a.atttypmod) as type, a.attcollation as "collation" into col
        from pg_attribute a where a.attrelid = rel and a.attname = column_name and not a.attisdropped;
    return domicile.ready(rel, column_name, checked.canonical, checked.raises, checked.used, checked.keyed, checked.printed,
                          col.type, col."collation", format('mask of column %I of table %s', column_name, rel));
end
$$;
comment on function domicile.wrap_mask(regclass, text, text) is
'The mask as it stands in a view or a stream''s query: an expression over a row named t, of the column''s exact type, length and collation, keys supplied through scalar subqueries on domicile.mask_key (made here where the domain has none), unable to raise on any value. Names outside pg_catalog are qualified: put it into a statement while search_path does not place another schema before pg_catalog. Checks first, as domicile.check_mask.';

-- ROWS ---------------------------------------------------------------------------------------------------------------------

create function domicile.check_rows_parts(rel regclass, expression text,
    out canonical text, out raises boolean, out used int[], out printed text)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    subject text := format('ROWS of table %s', rel);
    a record;
begin
    select * into a from domicile.analysed(rel, expression, subject);
    raises := domicile.check_nodes(rel, a.node, a.range_index, null, subject);
    if domicile.base_type(a.type) <> 'bool'::regtype then
        raise exception '% is of type %, not boolean', subject, format_type(a.type, null) using errcode = '42804',
            hint = 'ROWS says which rows may be seen: write a condition.';
    end if;
    printed := a.printed;
    if domicile.keyed_calls(a.node) > 0 then
        raise exception '% uses a keyed mask function and is refused', subject using errcode = '42P17',
            hint = 'Which rows are seen must not depend on a key.';
    end if;
    canonical := a.canonical;
    if canonical is null then
        raise exception '% is not one expression', subject using errcode = '42601', hint = 'Write one condition over the columns of the row.';
    end if;
    used := array(select distinct (n ->> 'varattno')::int from domicile.nodes(a.node) n where n ->> 'node' = 'VAR' order by 1);
end
$$;
comment on function domicile.check_rows_parts(regclass, text) is 'All that is known of a ROWS condition. Raises as domicile.check_rows does.';

create function domicile.check_rows(rel regclass, expression text) returns void
language sql
set search_path = pg_catalog, pg_temp
as $$ select from domicile.check_rows_parts(rel, expression) $$;
comment on function domicile.check_rows(regclass, text) is
'Nothing where a ROWS condition is boolean, immutable, over the row''s own columns and of listed functions; raises 42P17 or the analyser''s own SQLSTATE where it is not. Reads no row.';

create function domicile.wrap_rows(rel regclass, expression text) returns text
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    checked record;
begin
    select * into checked from domicile.check_rows_parts(rel, expression);
    return domicile.ready(rel, null, checked.canonical, checked.raises, checked.used, 0, checked.printed, 'boolean', 0, format('ROWS of table %s', rel));
end
$$;
comment on function domicile.wrap_rows(regclass, text) is
'The ROWS condition as it stands in a view, over a row named t; NULL, which hides the row, where it would raise. Otherwise as domicile.wrap_mask.';

create function domicile.drop_unused_mask_wrappers() returns int
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    w record;
    dropped int := 0;
begin
    for w in
        select m.name, p.oid::regprocedure as function
        from domicile.mask_wrapper m
        left join pg_proc p on p.proname = m.name and p.pronamespace = 'domicile'::regnamespace
        where not exists (select from pg_depend d where d.refclassid = 'pg_proc'::regclass and d.refobjid = p.oid and d.deptype = 'n')
    loop
        if w.function is not null then
            execute format('drop function %s', w.function);
        end if;
        delete from domicile.mask_wrapper where name = w.name;
        dropped := dropped + 1;
    end loop;
    return dropped;
end
$$;
comment on function domicile.drop_unused_mask_wrappers() is
'Drops the functions domicile.mask_… on which no view depends; how many. Call it after the views were made anew, in the same transaction.';

-- The checker creates views and keys: for those who write policies, that is for the functions that they call.
do $$
declare
    f regprocedure;
begin
    for f in select p.oid from pg_proc p where p.pronamespace = 'domicile'::regnamespace and p.proname in ('node_tree', 'view_text',
        'check_one_expression', 'argument', 'text_constant', 'argument_problem', 'analysed', 'keyed_calls', 'node_type', 'node_hides', 'base_type', 'nodes', 'shown_columns', 'check_nodes', 'harmless_domain', 'check_domain', 'check_mask_parts',
        'type_text', 'key_over', 'check_mask', 'column_names', 'mask_columns', 'mask_shown_columns', 'mask_domain', 'sql_tokens',
        'row_identity', 'with_keys', 'key_text', 'put_keys', 'wrapped', 'ready', 'wrap_mask', 'check_rows_parts', 'check_rows', 'wrap_rows',
        'drop_unused_mask_wrappers')
    loop
        execute format('revoke all on function %s from public', f);
    end loop;
end
$$;
