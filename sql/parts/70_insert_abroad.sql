-- Rows with masked columns, inserted from abroad: a policy's option insert.
--
-- An INSTEAD OF INSERT trigger on the border view, run as domicile_insert, which may insert and read nothing but the key.
-- UPDATE and DELETE stay PostgreSQL's own. COPY works, ON CONFLICT does not. RETURNING gives NULL for what is masked: a
-- role that can write a deterministic pseudonym and read it back could try every telephone number in a minute.

create function domicile.insert_abroad() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    base regclass := tg_argv[0]::oid;
    may_insert text[] := tg_argv[1]::text[];
    readable text[] := tg_argv[2]::text[];
    given jsonb := to_jsonb(new);
    names text[];
    refused text;
    shown record;
begin
    select string_agg(quote_ident(k), ', ') into refused from jsonb_each(given) j (k, v) where j.v <> 'null' and j.k <> all (may_insert);
    if refused is not null then
        raise insufficient_privilege using message = format('column %s of table %s can''t be inserted from another region', refused, tg_table_name);
    end if;
    -- What was left out is NULL here, and gets its default; a view knows no defaults.
    names := array(select k from jsonb_each(given) j (k, v) where j.v <> 'null');
    execute format('insert into %s%s returning %s', base,
        case when cardinality(names) = 0 then ' default values'
            else format(' (%s) select %s from (select ($1).*) n', (select string_agg(quote_ident(n), ', ') from unnest(names) n),
                (select string_agg('n.' || quote_ident(n), ', ') from unnest(names) n)) end,
        case when cardinality(readable) = 0 then 'null' else (select string_agg(quote_ident(r), ', ') from unnest(readable) r) end)
        into shown using new;
    -- What was written in a masked column is not read back, neither as it was nor as its mask.
    return jsonb_populate_record(new, (select coalesce(jsonb_object_agg(m, null), '{}') from unnest(tg_argv[3]::text[]) m)
        || case when cardinality(readable) = 0 then '{}' else to_jsonb(shown) end);
end
$$;
comment on function domicile.insert_abroad() is
    'INSTEAD OF INSERT on a border view: arguments are the table''s oid, the columns that may be inserted, the key''s clear columns '
    'and the masked ones. NULL means the column''s default';

create function domicile.make_insertable(rel regclass, view regclass, insertable text[], writable text[]) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    execute format('create trigger domicile_insert instead of insert on %s for each row execute function domicile.insert_abroad(%L, %L, %L, %L)',
        view, rel::oid, insertable, array(select k from unnest(domicile.primary_key(rel)) k where k = any (writable)),
        array(select i from unnest(insertable) i where i <> all (writable)));
end
$$;
comment on function domicile.make_insertable(regclass, regclass, text[], text[]) is 'Puts the trigger of option insert on a border view';

grant create on schema domicile to domicile_insert;
alter function domicile.insert_abroad() owner to domicile_insert;
revoke create on schema domicile from domicile_insert;
