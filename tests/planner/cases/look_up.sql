plan expect=look-up $1=5
select * from customers where id = $1
----
READ rows
Domicile: look-up
  Regions: us, eu, ap
  Key: id = $1, unique over all regions: here first, then the others at once
  Tables: "public"."customers"
eu> select * from "to_us"."customers" where id = $1

plan expect=look-up
select * from orders where customer_id = 42 and status = 'new'
----
READ rows
Domicile: look-up
  Regions: us, eu, ap
  Key: customer_id = 42, unique over all regions: here first, then the others at once
  Tables: "public"."orders"
eu> select * from "to_us"."orders" where customer_id = 42 and status = 'new'

plan expect=look-up
select * from orders o join customers c on c.id = o.customer_id where c.id = 42
----
READ rows
Domicile: look-up
  Regions: us, eu, ap
  Key: customer_id = 42, unique over all regions: here first, then the others at once
  Tables: "public"."orders", "public"."customers"
eu> select * from "to_us"."orders" o join "to_us"."customers" c on c.id = o.customer_id where c.id = 42

plan expect=look-up
select o.*, i.* from orders o left join order_items i on i.order_id = o.id where o.id = 7
----
READ rows
Domicile: look-up
  Regions: us, eu, ap
  Key: id = 7, unique over all regions: here first, then the others at once
  Tables: "public"."orders", "public"."order_items"
eu> select o.*, i.* from "to_us"."orders" o left join "to_us"."order_items" i on i.order_id = o.id where o.id = 7

plan expect=look-up
select customer_id, count(*) from orders where customer_id = 42 group by 1
----
READ rows
Domicile: look-up
  Regions: us, eu, ap
  Key: customer_id = 42, unique over all regions: here first, then the others at once
  Tables: "public"."orders"
eu> select customer_id, count(*) from "to_us"."orders" where customer_id = 42 group by 1

# Don't: a count answers a row where there is none
plan expect-not=look-up
select count(*) from orders where customer_id = 42
----
READ rows
Domicile: combine
  Regions: us, eu, ap
  Because: no key of orders is compared with a value
  Tables: "public"."orders"
  Declined: route: no key of orders is compared with a value
  Declined: append: an aggregate or a window function sees rows of all regions
  Declined: merge: an aggregate or a window function sees rows of all regions
here> SELECT count(*) FROM orders WHERE customer_id = 42
eu> SELECT count(*) FROM to_us.orders WHERE customer_id = 42
final []> SELECT CAST(COALESCE(pg_catalog.sum(domicile_rows.c1), 0) AS bigint) AS count FROM unnest($1) AS domicile_rows (c1)

# Don't: several values may live in several regions
plan expect=append
select * from customers where id in (1, 2)
----
READ rows
Domicile: append
  Regions: us, eu, ap
  Because: no key of customers is compared with a value
  Tables: "public"."customers"
  Declined: route: no key of customers is compared with a value
eu> select * from "to_us"."customers" where id in (1, 2)

# Don't: half a key
plan expect=append
select * from order_items where line = 1
----
READ rows
Domicile: append
  Regions: us, eu, ap
  Because: no key of order_items is compared with a value
  Tables: "public"."order_items"
  Declined: route: no key of order_items is compared with a value
eu> select * from "to_us"."order_items" where line = 1

plan expect=look-up
select * from order_items where line = 1 and order_id = 3
----
READ rows
Domicile: look-up
  Regions: us, eu, ap
  Key: order_id = 3, unique over all regions: here first, then the others at once
  Tables: "public"."order_items"
eu> select * from "to_us"."order_items" where line = 1 and order_id = 3

plan expect=look-up
update customers set name = 'x' where id = 4 returning *
----
WRITE rows
Domicile: look-up
  Regions: us, eu, ap
  Key: id = 4, unique over all regions: here first, then the others at once
  Tables: "public"."customers"
eu> update "to_us"."customers" set name = 'x' where id = 4 returning *

plan expect=look-up
delete from orders where customer_id = 4
----
WRITE
Domicile: look-up
  Regions: us, eu, ap
  Key: customer_id = 4, unique over all regions: here first, then the others at once
  Tables: "public"."orders"
eu> delete from "to_us"."orders" where customer_id = 4

plan expect=look-up
select * from customers where id = 5 for update
----
READ rows
Domicile: look-up
  Regions: us, eu, ap
  Key: id = 5, unique over all regions: here first, then the others at once
  Tables: "public"."customers"
eu> select * from "to_us"."customers" where id = 5 for update

# Don't: the id of this table is not known to be unique over regions
plan expect=append path=sales
select * from orders where id = 5
----
READ rows
Domicile: append
  Regions: us, eu, ap
  Because: no key of orders is compared with a value
  Tables: "sales"."orders"
  Declined: route: no key of orders is compared with a value
eu> select * from "to_us$sales"."orders" where id = 5

plan expect=look-up
select * from events where id = 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'
----
READ rows
Domicile: look-up
  Regions: us, eu, ap
  Key: id = 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', unique over all regions: here first, then the others at once
  Tables: "public"."events"
eu> select * from "to_us"."events" where id = 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'

# Don't: these make a row of none
plan expect-not=look-up
select 1 from customers where id = 5 having true
----
READ rows
Domicile: refused (0A000: can't be answered over several regions: nothing is added up)
  Hint: Compare the residency key with a value, so that one region can answer.
  Because: no key of customers is compared with a value
  Tables: "public"."customers"
  Declined: route: no key of customers is compared with a value
  Declined: append: HAVING looks at rows of all regions
  Declined: merge: DISTINCT or GROUP BY gathers rows of all regions
  Declined: combine: nothing is added up
eu> select 1 from "to_us"."customers" where id = 5 having true

plan expect-not=look-up
select count(*) from customers where id = 5 group by ()
----
READ rows
Domicile: refused (0A000: can't be answered over several regions: GROUPING SETS, ROLLUP or CUBE)
  Hint: Compare the residency key with a value, so that one region can answer.
  Because: no key of customers is compared with a value
  Tables: "public"."customers"
  Declined: route: no key of customers is compared with a value
  Declined: append: GROUP BY gathers rows of all regions
  Declined: merge: an aggregate or a window function sees rows of all regions
  Declined: combine: GROUPING SETS, ROLLUP or CUBE
eu> select count(*) from "to_us"."customers" where id = 5 group by ()

plan expect=look-up
select * from customers where id = $1::bigint and name = $2
----
READ rows
Domicile: look-up
  Regions: us, eu, ap
  Key: id = $1, unique over all regions: here first, then the others at once
  Tables: "public"."customers"
eu> select * from "to_us"."customers" where id = $1::bigint and name = $2
