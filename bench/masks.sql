-- What masks cost: rows a second of one backend, no parallel plan, over 280,000 rows in memory.
--
--     psql -X -q -f bench/masks.sql "$DSN"        (a throw-away database with Domicile in it)
--
-- Each line: the mask, rows a second, and how much of that time the bare scan takes.

set max_parallel_workers_per_gather = 0;
set jit = off;
set client_min_messages = warning;

create table public.bench_masks as
    select i::bigint as id, 'user' || i || '@example.com' as email, 'Name ' || i as name,
           date '1950-01-01' + i % 20000 as born, i % 90000 as salary
    from generate_series(1, 280000) i;
alter table public.bench_masks add primary key (id);
vacuum analyze public.bench_masks;

create function pg_temp.rows_a_second(select_list text, source text default 'public.bench_masks t') returns numeric
language plpgsql as $$
declare
    started timestamptz;
    best interval;
begin
    for i in 1 .. 3 loop
        started := clock_timestamp();
        execute format('select count(*) from (select %s from %s offset 0) m where m is not null', select_list, source);
        best := least(best, clock_timestamp() - started);
    end loop;
    return round(280000 / extract(epoch from best));
end
$$;

create function pg_temp.mask(col text, expression text) returns text language sql as
    $$ select domicile.wrap_mask('public.bench_masks', col, expression) || ' as ' || col $$;

select what, to_char(pg_temp.rows_a_second(masks), '999,999,999') as rows_a_second
from (values
    ('no mask', 't.email, t.name'),
    ('pseudonym', pg_temp.mask('email', 'pseudonym(email)')),
    ('pseudonym, partial', pg_temp.mask('email', 'pseudonym(email)') || ', ' || pg_temp.mask('name', 'partial(name, 1)')),
    ('partial', pg_temp.mask('name', 'partial(name, 1)')),
    ('generalize a date', pg_temp.mask('born', 'generalize(born, ''year'')')),
    ('generalize a number', pg_temp.mask('salary', 'generalize(salary, 1000)')),
    ('noise', pg_temp.mask('salary', 'noise(salary, 100)')),
    ('fake', pg_temp.mask('name', 'fake(name, ''name'')')),
    ('wrapped: may raise', pg_temp.mask('salary', 'salary / 1000 * 1000'))
) v (what, masks);

-- As the stream does it: arrays of the row type, 1,000 rows each.
create table public.bench_batches as
    select array_agg(b) as rows from public.bench_masks b group by b.id / 1000;
vacuum analyze public.bench_batches;
select 'pseudonym, partial; arrays of rows' as what,
       to_char(pg_temp.rows_a_second(pg_temp.mask('email', 'pseudonym(email)') || ', ' || pg_temp.mask('name', 'partial(name, 1)'),
               'public.bench_batches b, unnest(b.rows) t'), '999,999,999') as rows_a_second;

drop table public.bench_batches, public.bench_masks;
