-- Statements whose answer must be that of one PostgreSQL; tests/differential/corpus.py says how this file is read.

-- # by key
select * from customers where country = 'DE' order by id;
select * from customers where country = 'US' order by id;
select id, name from customers where country in ('DE', 'JP', 'US') order by id;
select id, name, email as "E-Mail" from customers where id = 7;
select id from customers where id in (1, 2, 3, 50);
select * from customers where country = 'XX';
select * from customers where country = null;
select * from customers where id = -1;
select c.* from customers c where c.country = 'FR' and c.tier = 'gold';
select count(*) from customers where country = 'DE';

-- # by key, bound
-- values ["DE"]
select id, name, born, created_at from customers where country = $1 order by id;
-- values ["{DE,US,JP}"]
select id, name from customers where country = any ($1) order by id;
-- values ["17"]
select * from customers where id = $1;
-- values [null]
select * from customers where country = $1;
-- values ["3", "DE"]
select id + $1 as sum from customers where country = $2 order by 1;
-- values ["gold", "2"]
select id from customers where tier = $1 order by id limit $2;
-- values ["2000-01-01"]
select count(*) from customers where born < $1;

-- # every row and column
select * from customers;
select * from orders;
select * from order_items;
select * from kinds;
select * from "Größe ""x""";
select * from tickets;
select * from ticket_notes;
select * from offices;
select * from products;
select * from countries where code < 'C' order by code;
table tickets;
select * from kinds where region = 'eu' and id = 2;
select * from kinds where region = 'ap' and id = 2;
select * from kinds where region = 'us' and id = 2;

-- # names
select "Land", "Höhe", "select" from "Größe ""x""" where "Land" = 'DE';
select "Größe ""x"""."Höhe" from "Größe ""x""" order by id;
select x."Höhe" as "größer als ""x""" from "Größe ""x""" as x order by x.id;
select "Land", count(*), sum("Höhe") from "Größe ""x""" group by "Land" order by "Land";
select public.customers.id from public.customers where public.customers.country = 'JP' order by 1;
select CUSTOMERS.ID from Customers where COUNTRY = 'JP' order by 1;

-- # ordered and limited
select id from customers order by id limit 5;
select id from customers order by id desc limit 5 offset 7;
select id, born from customers order by born desc, id fetch first 6 rows only;
select id, tier from customers order by tier, id offset 110;
select id, name from customers order by name, id limit 9;
select id, n from kinds order by n nulls first, id, region limit 10;
select id, f8 from kinds order by f8 desc, id, region limit 10;
select id, tsz from kinds order by tsz desc nulls last, id, region limit 10;
select id, u from kinds order by u nulls last, id, region limit 4;
select id, d from kinds order by d, id, region limit 10;
select id, iv from kinds order by iv desc nulls last, id, region limit 5;
select id, by from kinds order by by, id, region limit 5;
select id as "Nummer" from customers order by "Nummer" limit 3;
select id, id % 7 as r from customers order by id % 7, id limit 20;
select id from customers order by length(name) desc, id limit 5;
select distinct tier from customers order by tier;
select distinct country from customers;
select id from customers limit 0;
select n4, c, v from kinds order by region, id;

-- # aggregates
select count(*) from customers;
select count(*), count(phone), count(note), min(born), max(born), min(id), max(created_at) from customers;
select sum(total), avg(total), min(total), max(total) from orders;
select sum(i2), sum(i4), sum(i8), sum(n) from kinds where id > 2;
select avg(i2), avg(i4), avg(n4) from kinds where id > 2;
select sum(m) from kinds;
select sum(iv), avg(iv) from kinds where id > 2;
select sum(n), max(n), min(n) from kinds;
select max(f8), min(f8), max(f4) from kinds;
select min(d), max(d), min(tsz), max(tsz), min(ts), max(tm) from kinds;
select bool_and(consent), bool_or(consent), every(id > 0) from customers;
select bit_and(i4), bit_or(i4) from kinds where id > 2;
select count(*) from customers where false;
select sum(total), min(total), avg(total) from orders where total < 0;
select tier, count(*) from customers group by tier;
select tier, consent, count(*), min(id) from customers group by tier, consent order by tier, consent;
select country, count(*) as n from customers group by country having count(*) > 3 order by n desc, country;
select extract(year from born) as y, count(*) from customers group by 1 order by 1 limit 5;
select date_trunc('month', placed_at at time zone 'UTC') as month, sum(total) from orders group by month order by month;
select count(*) filter (where consent) as yes, count(*) filter (where not consent) as no from customers;
select mood, count(*) from tickets group by mood;
select b, mood, count(*), sum(n4) from kinds group by b, mood;
select v, count(*) from kinds group by v order by v;
select upper(tier) as t, count(*) + 1 as more from customers group by upper(tier) order by t;
select count(*) * 2 + max(id) from customers;
select region, sum(f8), avg(f8), sum(f4), avg(f4) from kinds where id in (6, 7) group by region;
select coalesce(sum(total), 0) as all_of_it from orders where status = 'new';
select case when count(*) > 100 then 'many' else 'few' end from customers;

-- # aggregates that can't be added up [refused]
select count(distinct country) from customers;

-- # aggregates in an order [refused]
select string_agg(name, ',' order by id) from customers;

-- # arrays of all [refused]
select array_agg(id order by id) from customers;

-- # windows [refused]
select id, row_number() over (order by id) from customers;

-- # windows in one region
select id, row_number() over (order by id) from customers where country = 'DE' order by id;
select id, rank() over (partition by tier order by born) from customers where country = 'US' order by id;
select string_agg(tier, ',' order by id) from customers where country = 'DE';
select count(distinct tier) from customers where country = 'DE';
select array_agg(id order by id) from customers where country = 'DE';

-- # joins along the family
select c.id, o.id, o.total from customers c join orders o on o.customer_id = c.id where c.country = 'DE' order by 1, 2;
select c.id, o.id from customers c join orders o on o.customer_id = c.id order by c.id, o.id limit 20;
select c.country, sum(o.total) from customers c join orders o on o.customer_id = c.id group by c.country order by 2 desc, 1 limit 5;
select c.tier, count(o.id) from customers c left join orders o on o.customer_id = c.id group by c.tier order by 1;
select c.id, o.id, i.line, p.name from customers c join orders o on o.customer_id = c.id join order_items i on i.order_id = o.id join products p on p.id = i.product_id where c.country = 'US' order by 1, 2, 3;
select p.name, sum(i.quantity) from order_items i join products p on p.id = i.product_id group by p.name order by 2 desc, 1 limit 5;
select n.name, count(*) from customers c join countries n on n.code = c.country group by n.name order by 2 desc, 1 limit 5;
select c.id from customers c where exists (select from orders o where o.customer_id = c.id and o.total > 200) order by 1;
select c.id from customers c where not exists (select from orders o where o.customer_id = c.id) order by 1;
select c.id, (select count(*) from orders o where o.customer_id = c.id) as n from customers c order by c.id limit 12;
select id from customers where id in (select customer_id from orders where total > 300) order by id;
select t.title, n.note from tickets t join ticket_notes n on n.ticket_id = t.id order by t.id, n.n;
select t.id, n.n from tickets t left join ticket_notes n on n.ticket_id = t.id and n.n = 2 order by t.id;
select c.id, o.id from customers c, orders o where o.customer_id = c.id and c.country in ('DE', 'US') order by 1, 2;
select o.id from orders o where o.customer_id = 7 order by 1;
select c.id, last.id from customers c cross join lateral (select o.id from orders o where o.customer_id = c.id order by o.id desc limit 1) last order by 1 limit 10;

-- # a natural join [refused]
select * from tickets t natural join (select ticket_id as id, note from ticket_notes) n order by id, note limit 4;

-- # a join of what does not live together [refused]
select a.id, b.id from customers a join customers b on a.tier = b.tier where a.id < b.id;

-- # subqueries and CTEs
select * from (select id, name from customers) s order by id limit 3;
select count(*) from (select id from customers where tier = 'gold') s;
with g as (select id, country from customers where tier = 'gold') select * from g order by id;
with g as (select * from customers where country = 'DE') select count(*), max(id) from g;
with recursive n (i) as (values (1) union all select i + 1 from n where i < 5) select * from n;
select id from customers where country = 'DE' union all select id from customers where country = 'DE' order by 1;

-- # no table at all
select 1 as one, 'x' as "Two", null as three, array[1, 2], row(1, 'a');
values (1, 'a'), (2, null);
select;
select 1 / 3.0, 0.1::float8 + 0.2, 'NaN'::numeric, '-0'::float8, interval '1 day 02:00', 1_000_000, 0xFF;
select generate_series(1, 3);
select current_user = session_user, current_database();

-- # values of every type as literals
select $$it's$$, U&'\0041', E'\x41', B'101', X'ff', 'ab'::bytea, '{1,2}'::int[], '1'::money;
select id from kinds where u = 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11';
select id, region from kinds where f8 = 'NaN';
select id, region from kinds where f8 = '0' order by id;
select id, region from kinds where n = 'Infinity';
select id, region from kinds where t = '';
select id, region from kinds where t like 'ž%' order by 1;
select id, region from kinds where ta @> '{x1}' order by 1;
select id, region from kinds where jb @> '{"even": true}' order by 1 limit 5;
select jb ->> 'i' as i, jb -> 'even' as even, region from kinds where jb ? 'i' order by (jb ->> 'i')::int limit 4;
select id, ta[1], ia[2], na[1] from kinds where region = 'eu' order by id;
select id, region from kinds where tsz < '2024-01-05 00:00+00' order by tsz, id;
select id, region from kinds where d between '2024-01-10' and '2024-01-15' order by 1;
select id, region from kinds where iv > interval '10 days' order by 1 limit 5;
select region, id from kinds where by = '\xdeadbeef';
select region, id from kinds where b is not true and id < 10 order by 1, 2;
select region, id from kinds where r @> 3;
select region, id from kinds where ip << '10.0.0.0/8';

-- # bound values of every type
-- values ["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"]
select region, id from kinds where u = $1;
-- values ["1.25"]
select region, id from kinds where n4 > $1 order by 1, 2 limit 4;
-- values ["NaN"]
select region, id from kinds where f8 = $1;
-- values ["{x1,y}"]
select region, id from kinds where ta = $1 order by 1, 2;
-- values ["2024-02-29 12:34:56.789+05:30"]
select region, id from kinds where tsz = $1;
-- values ["1 day"]
select region, id from kinds where iv < $1 order by 1, 2;
-- values ["\\xdeadbeef"]
select region, id from kinds where by = $1;
-- values ["{\"even\": true}"]
select region, id from kinds where jb @> $1 order by 1, 2 limit 3;
-- values ["t"]
select count(*) from kinds where b = $1;
-- values ["eu", "5"]
select n, n4, f4, f8 from kinds where region = $1 and id > $2 order by id limit 3;

-- # types that the user made
select id, mood from tickets order by id limit 4;
select id, mood from tickets where mood = 'sad' order by id;
select id, mood from tickets where mood > 'sad' order by mood, id;
select region, id, mood, moods, pct, lbl from kinds order by region, id;
select region, id from kinds where pct > 20 order by region, id limit 4;
select id, 'ok'::mood from tickets where id = 2;
select 'ok'::mood, enum_range(null::mood), 5::percent;
select max(mood), min(mood) from tickets where id = 1;

-- # bound values of types that the user made
-- values ["happy"]
select id, mood from tickets where mood = $1 order by id;
-- values ["happy", "3"]
select id, mood from tickets where mood = $1 and id = $2;

-- # casts to a type that the user made
select id, title::label from tickets where id = 1;
select id, title::label from tickets where id = 2;
select id, title::label from tickets where id = 3;
select id from tickets where mood = 'sad'::mood order by id;

-- # a regional table
select * from offices order by id;
select city from offices where id = 2;
select count(*) from offices;

-- # global tables
select count(*) from products;
select p.id from products p where p.price > 100 order by p.price, p.id limit 3;

-- # errors
select nothing from customers;
select * from nowhere;
select id frm customers;
select 1 / 0;
select 'x'::int;
select id / 0 from customers where country = 'DE';
select id / 0 from customers where country = 'US';
select id / 0 from customers where country = 'JP';
select id / 0 from customers;
select nofunction(id) from customers where country = 'DE';
select nofunction(id) from customers;
select sum(id / 0) from customers;
select c.id from customers x;
select id from customers, orders;
select count(*), id from customers;
select id from customers group by tier;
select * from customers where country = 1;
select id from customers order by 9;
select id from customers limit -1;
select (select id from customers where country = 'DE');
-- values ["x"]
select * from customers where id = $1;
-- values ["x"]
select * from tickets where mood = $1 and id = 1;
-- values ["x"]
select * from tickets where mood = $1;
insert into kinds (region, id, mood) values ('ap', 103, 'bad');
select 'bad'::mood;
select title from tickets where id = 99999999999999999999;
select relname from pg_class where oid = 'public.customers'::regclass;
set no_such_setting = 1;
select set_config('datestyle', 'bad', true);
rollback;
commit;

-- # a write of a global table [refused]
insert into countries values ('QQ', 'x');

-- # a write of another [refused]
delete from products;

-- # DDL of a pinned table [refused]
drop table customers;

-- # TRUNCATE of a pinned table [refused]
truncate orders;

-- # a table of rows of another region [refused us ap]
create temporary table mine as select * from customers where country = 'DE';

-- # another [refused us ap]
select * into temporary mine from customers where country = 'DE';

-- # rights
create table public.mine (id int);
select * from pg_authid;

-- # one row in
insert into customers (id, country, name, email) values (9001, 'DE', 'Neu', 'n@example.com');
select id, country, name, tier, consent, phone from customers where id = 9001;
delete from customers where id = 9001;

-- # one row in, bound
-- values ["9002", "JP", "新", "n@example.com", null]
insert into customers (id, country, name, email, born) values ($1, $2, $3, $4, $5) returning id, country, name, born;
-- values ["JP", "9002"]
delete from customers where country = $1 and id = $2 returning name;

-- # rows for several homes
insert into customers (id, country, name, email, consent) values (9011, 'DE', 'a', 'a', true), (9012, 'US', 'b', 'b', false), (9013, 'JP', 'c', 'c', true), (9014, 'DE', 'd', 'd', true) returning id, country, tier;
select id, country from customers where id between 9011 and 9019 order by id;
update customers set note = 'x' where country = 'DE' and id > 9000 returning id, note;
insert into orders (id, customer_id, total) values (9021, 9011, 1.5), (9022, 9012, 2.5), (9023, 9013, 3.5) returning id, total, status;
select id, total from orders where id > 9000 order by id;
insert into order_items (order_id, line, product_id, quantity, price) values (9021, 1, 1, 2, 0.75), (9022, 1, 2, 1, 2.5);
select * from order_items where order_id > 9000 order by order_id;
delete from order_items where order_id = 9021;
delete from order_items where order_id = 9022;
delete from orders where id = 9021;
delete from orders where id = 9022;
delete from orders where id = 9023;
delete from customers where id = 9011;
delete from customers where country = 'DE' and id > 9000;
delete from customers where country = 'US' and id > 9000;
delete from customers where country = 'JP' and id > 9000;

-- # every type in
begin;
insert into kinds (region, id, b, i2, i4, i8, n, n4, f4, f8, t, v, c, d, ts, tsz, iv, u, by, jb, ta, ia, mood, moods, pct, lbl) values ('eu', 100, true, 1, 2, 3, 'NaN', 1.23456, '-0', 'Infinity', E'\t', 'ü', 'a', 'infinity', '2024-01-01', '2024-01-01 00:00+02', '1 mon', gen_random_uuid(), '\x00', '{"a": 1}', '{a,NULL}', '{}', 'ok', '{sad}', 12.345, 'l') returning b, n, n4, f4, f8, t, c, d, tsz, iv, ta, ia, mood, moods, pct;
insert into kinds (region, id, ta, mood) values ('us', 100, '{"a,b"}', 'sad'), ('ap', 100, null, null) returning region, ta, mood;
select region, ta, mood from kinds where id = 100 order by region;
rollback;

-- # bound values in, in several regions
begin;
-- values ["us", "101", "1.5", "ok", "{a,b}", "2024-01-01 00:00+00", "eu", "102", "-0.5", "sad", null, "infinity"]
insert into kinds (region, id, n, mood, ta, tsz) values ($1, $2, $3, $4, $5, $6), ($7, $8, $9, $10, $11, $12) returning region, id, n, mood, ta, tsz;
select region, id, n, mood, ta, tsz from kinds where id > 100 order by id;
rollback;

-- # update
begin;
update customers set tier = 'gold' where country = 'DE' returning id, tier;
update customers set note = 'n' || id where country = 'JP';
update customers set note = null where id = 7;
update customers set name = upper(name) where country in ('IT', 'FR') and tier = 'basic' returning id, name;
update orders set status = 'done' where customer_id = 7 returning id;
update tickets set open = not open where id in (1, 1025) returning id, open;
update ticket_notes set note = note || '!' where ticket_id = 2 and n = 1 returning note;
update kinds set f8 = f8 * 2, ta = ta || array['z'] where region = 'ap' and id between 3 and 10 returning id, f8, ta;
select count(*) from customers where tier = 'gold';
select id, note from customers where country = 'JP' order by id;
rollback;

-- # update with FROM
begin;
update orders o set total = o.total + 1 from customers c where c.id = o.customer_id and c.country = 'DE' returning o.id, o.total;
delete from order_items i using orders o, customers c where o.id = i.order_id and c.id = o.customer_id and c.country = 'US' returning i.order_id, i.line;
rollback;

-- # update of nothing
update customers set tier = 'gold' where country = 'DE' and id = -1;
update customers set tier = 'gold' where id = -1;
delete from customers where id = -1;
delete from customers where country = 'XX';

-- # update of a key [refused]
update customers set country = 'US' where id = 1;

-- # update of rows in several regions [refused]
update customers set note = 'x' where country in ('DE', 'US') and id > 9000 returning id, note;

-- # delete of rows in several regions [refused]
delete from order_items where order_id in (1, 2);

-- # update without a key [refused]
update customers set tier = 'gold';

-- # upserts
begin;
insert into tickets (id, title) values (1, 'again') on conflict (id) do nothing;
insert into tickets (id, title) values (2, 'again') on conflict (id) do update set title = excluded.title || '!' returning id, title;
insert into tickets (id, title) values (3, 'again') on conflict (id) do update set title = tickets.title || excluded.title where tickets.open returning id, title;
insert into accounts values ('us', 1, 5), ('eu', 1, 6), ('ap', 99, 7) on conflict (region, id) do update set amount = accounts.amount + excluded.amount returning region, id, amount;
insert into accounts values ('us', 1, 5), ('eu', 1, 6) on conflict do nothing;
select * from accounts where id in (1, 99) order by region, id;
rollback;

-- # constraints
insert into tickets (id, title) values (1, 'x');
insert into tickets (id, title) values (2, 'x');
insert into tickets (id, title) values (3, 'x');
insert into accounts values ('us', 100, -1);
insert into accounts values ('eu', 100, -1);
insert into accounts values ('ap', 100, -1);
insert into customers (id, country, name, email, tier) values (9003, 'DE', 'x', 'x', 'iron');
insert into customers (id, country, name, email, tier) values (9003, 'US', 'x', 'x', 'iron');
insert into customers (id, country, name, email) values (9003, 'DE', null, 'x');
insert into customers (id, country, name, email) values (9003, 'JP', null, 'x');
insert into kinds (region, id, pct) values ('eu', 103, 101);
insert into kinds (region, id, pct) values ('us', 103, 101);
insert into kinds (region, id, v) values ('ap', 103, 'more than twenty characters');
insert into kinds (region, id, v) values ('us', 103, 'more than twenty characters');
insert into kinds (region, id, i2) values ('ap', 103, 99999);
insert into kinds (region, id, mood) values ('us', 103, 'bad');
insert into kinds (region, id, nothing) values ('ap', 103, 'bad');
delete from customers where country = 'DE' and id in (select customer_id from orders);
delete from tickets where id = 1;
delete from tickets where id = 2;
update accounts set amount = -1 where region = 'ap' and id = 1;
update accounts set amount = -1 where region = 'us' and id = 1;

-- # a key that is NULL [words]
insert into customers (id, country, name, email) values (9003, null, 'x', 'x');

-- # a country that no region has [state 23514]
insert into customers (id, country, name, email) values (9003, '??', 'x', 'x');

-- # an order of nobody [words]
insert into orders (id, customer_id, total) values (9004, 999999, 1);

-- # all or nothing
insert into accounts values ('us', 100, 1), ('eu', 100, 1), ('ap', 100, -1);
select count(*) from accounts where id = 100;

-- # transactions
begin;
insert into accounts values ('us', 100, 1);
insert into accounts values ('eu', 100, 1);
savepoint a;
insert into accounts values ('ap', 100, 1);
select region from accounts where id = 100 order by region;
rollback to a;
select region from accounts where id = 100 order by region;
release a;
savepoint a;
select 1 / 0;
select 1;
rollback to savepoint a;
select region from accounts where id = 100 order by region;
commit;
select region from accounts where id = 100 order by region;
delete from accounts where region = 'us' and id = 100;
delete from accounts where region = 'eu' and id = 100;

-- # a failed transaction
begin;
insert into accounts values ('us', 101, 1), ('ap', 101, 1);
insert into accounts values ('eu', 1, 1);
select 1;
savepoint x;
commit;
select count(*) from accounts where id = 101;

-- # a transaction that commits in several regions
begin;
insert into accounts values ('us', 102, 1), ('eu', 102, 2), ('ap', 102, 3);
update accounts set amount = amount - 10 where region = 'us' and id = 1;
update accounts set amount = amount + 10 where region = 'ap' and id = 1;
commit;
select * from accounts where id in (1, 102) order by region, id;
begin isolation level repeatable read;
update accounts set amount = amount + 10 where region = 'us' and id = 1;
update accounts set amount = amount - 10 where region = 'ap' and id = 1;
delete from accounts where region = 'us' and id = 102;
delete from accounts where region = 'eu' and id = 102;
delete from accounts where region = 'ap' and id = 102;
commit;
select * from accounts where id in (1, 102) order by region, id;

-- # transaction modes
begin read only;
select count(*) from customers;
insert into accounts values ('eu', 104, 1);
rollback;
begin isolation level serializable read only deferrable;
select count(*) from accounts;
show transaction_isolation;
commit;
savepoint x;
begin;
begin;
rollback to nothing;
rollback;

-- # settings
begin;
set local timezone = 'Asia/Tokyo';
select region, id, tsz from kinds where id < 6 order by region, id;
set local datestyle = 'German';
set local intervalstyle = 'iso_8601';
set local bytea_output = 'escape';
select region, id, d, iv, by, f8, tsz from kinds where id < 6 order by region, id;
set local extra_float_digits = 0;
select region, id, f8, f4 from kinds where id < 6;
select max(tsz), max(d), min(iv) from kinds where id > 2;
select d, count(*) from kinds where id < 6 group by d order by d;
commit;
show timezone;
select region, id, tsz from kinds where region = 'eu' and id < 6 order by id;

-- # locks
begin;
select id from accounts where region = 'eu' and id = 1 for update;
select id from accounts where region = 'us' and id = 1 for share;
select c.id from customers c where c.country = 'DE' order by c.id for no key update;
rollback;

-- # prepared statements and cursors of SQL
prepare one (text) as select name from countries where code = $1;
execute one ('DE');
execute one ('JP');
deallocate one;
prepare one (text) as select id, name from customers where country = $1 order by id;
execute one ('DE');
execute one ('J' || 'P');
execute one;
prepare one as select 1;
deallocate one;
prepare some as select id from customers order by id limit 3;
execute some;
deallocate some;
begin;
declare c cursor for select id from customers where country = 'DE' order by id;
fetch 2 from c;
fetch all from c;
close c;
fetch c;
rollback;
begin;
declare c cursor for select id from customers where country = 'JP' order by id;
declare d scroll cursor for select id from customers where country = 'US' order by id;
fetch 2 from d;
fetch 2 from c;
fetch prior from d;
move 2 in c;
fetch c;
close all;
fetch d;
rollback;
fetch c;
declare c cursor for select 1;

-- # a cursor over several regions [refused]
begin;
declare c cursor for select id from customers;

-- # a cursor that outlives its transaction, abroad [refused us ap]
begin;
declare c cursor with hold for select id from customers where country = 'DE';

-- # copy in binary [refused]
copy tickets to stdout (format binary);

-- # copy out
copy (select id, country, name from customers where country = 'DE' order by id) to stdout;
copy (select * from tickets) to stdout;
copy tickets to stdout;
copy tickets (id, mood) to stdout with (format csv);
copy kinds to stdout;
copy "Größe ""x""" to stdout (format csv, delimiter ';', null 'ø', force_quote *);
copy (select 1, null, E'a\tb') to stdout;
copy offices to stdout;
copy offices to stdout (format csv, header);
copy tickets to stdout (format csv, header);

-- # copy into several regions, where no policy makes INSERT a trigger's [refused]
copy accounts from stdin;
-- data us	200	1
-- data eu	201	2
-- data ap	202	3

-- # copy in of a row that can't be read [refused eu ap]
copy accounts from stdin;
-- data us	200	x

-- # copy in of a short row [refused eu ap]
copy accounts from stdin;
-- data us	200
