plan expect=home
select 1
----
READ rows
Domicile: home
  Regions: us
  Because: no managed table

plan expect=home
-- nothing
----
EMPTY
Domicile: home
  Regions: us
  Because: nothing to do

plan expect=home
select * from products join countries on true
----
READ rows
Domicile: home
  Regions: us
  Because: global tables only: a copy is here
  Tables: "public"."products", "public"."countries"

plan expect=home
select * from visits
----
READ rows
Domicile: home
  Regions: us
  Because: no managed table

plan expect=home
select * from pg_catalog.pg_class
----
READ rows
Domicile: home
  Regions: us
  Because: no managed table

plan expect=home
select * from federated.customers
----
READ rows
Domicile: home
  Regions: us
  Because: no managed table

plan expect=error
select * from big_spenders
----
ERROR 0A000: view "public"."big_spenders" reads "public"."customers" of this region alone, so it can't be asked over regions
HINT: Ask its tables themselves, or schema federated for this region's rows with the copies of others.
POSITION: 15

plan expect=error
insert into products values (1, 'x', 1)
----
ERROR 0A000: "public"."products" is a global table: a write must reach every region, which the gateway can't do yet
HINT: Run it in each region, at that region's own server.

plan expect=home
create table visits (id int)
----
DDL
Domicile: home
  Regions: us
  Because: a utility statement

plan expect=home
vacuum
----
DDL
Domicile: home
  Regions: us
  Because: a utility statement

plan expect=home
do $$ begin perform 1; end $$
----
DDL
Domicile: home
  Regions: us
  Because: a utility statement

plan expect=error
alter table customers add x int
----
ERROR 0A000: ALTER TABLE of "public"."customers", a pinned table, can't be done through the gateway yet: it has to reach every region that holds the table
HINT: Run it in each region, at that region's own server.

plan expect=error
drop table if exists public.customers, visits
----
ERROR 0A000: DROP of "public"."customers", a pinned table, can't be done through the gateway yet: it has to reach every region that holds the table
HINT: Run it in each region, at that region's own server.

plan expect=error
drop trigger t on customers
----
ERROR 0A000: DROP of "public"."customers", a pinned table, can't be done through the gateway yet: it has to reach every region that holds the table
HINT: Run it in each region, at that region's own server.

plan expect=error
create index on orders (status)
----
ERROR 0A000: CREATE INDEX of "public"."orders", a pinned table, can't be done through the gateway yet: it has to reach every region that holds the table
HINT: Run it in each region, at that region's own server.

plan expect=error
truncate orders
----
ERROR 0A000: TRUNCATE of "public"."orders", a pinned table, can't be done through the gateway yet: it has to reach every region that holds the table
HINT: Run it in each region, at that region's own server.

plan expect=error
lock table customers
----
ERROR 0A000: LOCK of "public"."customers", a pinned table, can't be done through the gateway yet: it has to reach every region that holds the table
HINT: Run it in each region, at that region's own server.

plan expect=error
analyze customers
----
ERROR 0A000: VACUUM or ANALYZE of "public"."customers", a pinned table, can't be done through the gateway yet: it has to reach every region that holds the table
HINT: Run it in each region, at that region's own server.

plan expect=error
create view v as select * from customers
----
ERROR 0A000: a view of "public"."customers", a pinned table, can't be done through the gateway yet: it has to reach every region that holds the table
HINT: Run it in each region, at that region's own server.

plan expect=error
comment on column customers.name is 'x'
----
ERROR 0A000: COMMENT of "public"."customers", a pinned table, can't be done through the gateway yet: it has to reach every region that holds the table
HINT: Run it in each region, at that region's own server.

plan expect=error
grant select on products to bob
----
ERROR 0A000: GRANT or REVOKE of "public"."products", a global table, can't be done through the gateway yet: it has to reach every region that holds the table
HINT: Run it in each region, at that region's own server.

plan expect=home
grant select on visits to bob
----
DDL
Domicile: home
  Regions: us
  Because: a utility statement

plan expect=error
selct 1
----
ERROR 42601: syntax error at or near "selct"
POSITION: 1

plan expect=error
select 'é' frm x y
----
ERROR 42601: syntax error at or near "x"
POSITION: 16

plan expect=error
select 1; select 2
----
ERROR 42601: cannot insert multiple commands into a prepared statement

plan expect=route
explain select * from customers where country = 'DE'
----
EXPLAIN rows
Domicile: route
  Regions: eu
  Key: country = 'DE'
  Tables: "public"."customers"

plan expect=append
explain (verbose, format json) select * from customers
----
EXPLAIN rows
Domicile: append
  Regions: us, eu, ap
  Because: no key of customers is compared with a value
  Tables: "public"."customers"
  Declined: route: no key of customers is compared with a value

plan expect=home
explain analyze select 1
----
READ rows
Domicile: home
  Regions: us
  Because: no managed table

plan expect=refused
explain analyze select * from customers where country = 'DE'
----
EXPLAIN rows
Domicile: refused (0A000: EXPLAIN ANALYZE tells of rows that a policy hides, so it works in this region alone)
  Hint: Use EXPLAIN without ANALYZE, or EXPLAIN ANALYZE at the region's own server.
  Key: country = 'DE'
  Tables: "public"."customers"
  Only here: EXPLAIN ANALYZE tells of rows that a policy hides, so it works in this region alone

plan expect=route
explain (analyze) select * from customers where country = 'US'
----
EXPLAIN rows
Domicile: route
  Regions: us
  Key: country = 'US'
  Tables: "public"."customers"
  Only here: EXPLAIN ANALYZE tells of rows that a policy hides, so it works in this region alone
