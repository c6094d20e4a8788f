plan expect=merge
select * from customers order by name limit 5
----
READ rows
Domicile: merge
  Regions: us, eu, ap
  Because: no key of customers is compared with a value
  Tables: "public"."customers"
  Declined: route: no key of customers is compared with a value
  Declined: append: ORDER BY sorts rows of all regions
here> SELECT customers.id, customers.name, customers.email, customers.country, customers.tier, customers.born, customers.balance, customers.active, CAST(customers.tags AS pg_catalog.text), customers.nick, customers.score FROM customers ORDER BY 2 LIMIT 5
eu> SELECT customers.id, customers.name, customers.email, customers.country, customers.tier, customers.born, customers.balance, customers.active, CAST(customers.tags AS pg_catalog.text), customers.nick, customers.score FROM to_us.customers ORDER BY 2 LIMIT 5
final []> SELECT domicile_rows.c1 AS id, domicile_rows.c2 AS name, domicile_rows.c3 AS email, domicile_rows.c4 AS country, domicile_rows.c5 AS tier, domicile_rows.c6 AS born, domicile_rows.c7 AS balance, domicile_rows.c8 AS active, CAST(domicile_rows.c9 AS text[]) AS tags, domicile_rows.c10 AS nick, domicile_rows.c11 AS score FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) AS domicile_rows (c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11) ORDER BY domicile_rows.c2 LIMIT 5

plan expect=merge
select id, name as n from customers c where tier > 2 order by n desc nulls last, balance limit 10 offset 20
----
READ rows
Domicile: merge
  Regions: us, eu, ap
  Because: no key of customers is compared with a value
  Tables: "public"."customers"
  Declined: route: no key of customers is compared with a value
  Declined: append: ORDER BY sorts rows of all regions
here> SELECT id, name, balance FROM customers AS c WHERE tier > 2 ORDER BY 2 DESC NULLS LAST, 3 LIMIT 30
eu> SELECT id, name, balance FROM to_us.customers AS c WHERE tier > 2 ORDER BY 2 DESC NULLS LAST, 3 LIMIT 30
final []> SELECT domicile_rows.c1 AS id, domicile_rows.c2 AS n FROM unnest($1, $2, $3) AS domicile_rows (c1, c2, c3) ORDER BY domicile_rows.c2 DESC NULLS LAST, domicile_rows.c3 LIMIT 10 OFFSET 20

plan expect=merge $1=3 $2=4
select id from public.customers where public.customers.tier = $3 order by lower(name), 1 limit $1 offset $2
----
READ rows
Domicile: merge
  Regions: us, eu, ap
  Because: no key of customers is compared with a value
  Tables: "public"."customers"
  Declined: route: no key of customers is compared with a value
  Declined: append: ORDER BY sorts rows of all regions
here> SELECT id, lower(name) FROM public.customers WHERE public.customers.tier = $3 ORDER BY 2, 1 LIMIT CAST(LEAST(CAST(CAST($1 AS bigint) AS numeric) + CAST(CAST($2 AS bigint) AS numeric), 9223372036854775807) AS bigint)
eu> SELECT id, lower(name) FROM to_us.customers WHERE to_us.customers.tier = $3 ORDER BY 2, 1 LIMIT CAST(LEAST(CAST(CAST($1 AS bigint) AS numeric) + CAST(CAST($2 AS bigint) AS numeric), 9223372036854775807) AS bigint)
final [1, 2]> SELECT domicile_rows.c1 AS id FROM unnest($1, $2) AS domicile_rows (c1, c2) ORDER BY domicile_rows.c2, domicile_rows.c1 LIMIT $3 OFFSET $4

plan expect=merge
select c.*, o.total * 2 from customers c join orders o on o.customer_id = c.id order by o.total * 2 desc, o.placed
----
READ rows
Domicile: merge
  Regions: us, eu, ap
  Because: no key of customers, orders is compared with a value
  Tables: "public"."customers", "public"."orders"
  Declined: route: no key of customers, orders is compared with a value
  Declined: append: ORDER BY sorts rows of all regions
here> SELECT c.id, c.name, c.email, c.country, c.tier, c.born, c.balance, c.active, CAST(c.tags AS pg_catalog.text), c.nick, c.score, o.total * 2, o.placed FROM customers AS c INNER JOIN orders AS o ON o.customer_id = c.id
eu> SELECT c.id, c.name, c.email, c.country, c.tier, c.born, c.balance, c.active, CAST(c.tags AS pg_catalog.text), c.nick, c.score, o.total * 2, o.placed FROM to_us.customers AS c INNER JOIN to_us.orders AS o ON o.customer_id = c.id
final []> SELECT domicile_rows.c1 AS id, domicile_rows.c2 AS name, domicile_rows.c3 AS email, domicile_rows.c4 AS country, domicile_rows.c5 AS tier, domicile_rows.c6 AS born, domicile_rows.c7 AS balance, domicile_rows.c8 AS active, CAST(domicile_rows.c9 AS text[]) AS tags, domicile_rows.c10 AS nick, domicile_rows.c11 AS score, domicile_rows.c12 AS "?column?" FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) AS domicile_rows (c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11, c12, c13) ORDER BY domicile_rows.c12 DESC, domicile_rows.c13

plan expect=merge
select id from customers limit 7
----
READ rows
Domicile: merge
  Regions: us, eu, ap
  Because: no key of customers is compared with a value
  Tables: "public"."customers"
  Declined: route: no key of customers is compared with a value
  Declined: append: LIMIT counts rows of all regions
here> SELECT id FROM customers LIMIT 7
eu> SELECT id FROM to_us.customers LIMIT 7
final []> SELECT domicile_rows.c1 AS id FROM unnest($1) AS domicile_rows (c1) LIMIT 7

plan expect=merge
select id from customers offset 7
----
READ rows
Domicile: merge
  Regions: us, eu, ap
  Because: no key of customers is compared with a value
  Tables: "public"."customers"
  Declined: route: no key of customers is compared with a value
  Declined: append: OFFSET counts rows of all regions
here> SELECT id FROM customers
eu> SELECT id FROM to_us.customers
final []> SELECT domicile_rows.c1 AS id FROM unnest($1) AS domicile_rows (c1) OFFSET 7

plan expect=merge
select id from customers order by tier fetch first 3 rows with ties
----
READ rows
Domicile: merge
  Regions: us, eu, ap
  Because: no key of customers is compared with a value
  Tables: "public"."customers"
  Declined: route: no key of customers is compared with a value
  Declined: append: ORDER BY sorts rows of all regions
here> SELECT id, tier FROM customers ORDER BY 2 FETCH FIRST 3 ROWS WITH TIES 
eu> SELECT id, tier FROM to_us.customers ORDER BY 2 FETCH FIRST 3 ROWS WITH TIES 
final []> SELECT domicile_rows.c1 AS id FROM unnest($1, $2) AS domicile_rows (c1, c2) ORDER BY domicile_rows.c2 FETCH FIRST 3 ROWS WITH TIES 

plan expect=merge
select id, name from customers order by nick collate "C" limit 3
----
READ rows
Domicile: merge
  Regions: us, eu, ap
  Because: no key of customers is compared with a value
  Tables: "public"."customers"
  Declined: route: no key of customers is compared with a value
  Declined: append: ORDER BY sorts rows of all regions
here> SELECT id, name, nick FROM customers ORDER BY nick COLLATE "C" LIMIT 3
eu> SELECT id, name, nick FROM to_us.customers ORDER BY nick COLLATE "C" LIMIT 3
final []> SELECT domicile_rows.c1 AS id, domicile_rows.c2 AS name FROM unnest($1, $2, $3) AS domicile_rows (c1, c2, c3) ORDER BY domicile_rows.c3 COLLATE "C" LIMIT 3

plan expect=merge
select distinct_.id from customers distinct_ order by length(distinct_.name) limit all
----
READ rows
Domicile: merge
  Regions: us, eu, ap
  Because: no key of customers is compared with a value
  Tables: "public"."customers"
  Declined: route: no key of customers is compared with a value
  Declined: append: ORDER BY sorts rows of all regions
here> SELECT distinct_.id, length(distinct_.name) FROM customers AS distinct_
eu> SELECT distinct_.id, length(distinct_.name) FROM to_us.customers AS distinct_
final []> SELECT domicile_rows.c1 AS id FROM unnest($1, $2) AS domicile_rows (c1, c2) ORDER BY domicile_rows.c2 LIMIT ALL

plan expect=merge
select "größe", "select" from "Odd ""Name""" where "select" <> 'é' order by "Land" limit 1
----
READ rows
Domicile: merge
  Regions: us, eu, ap
  Because: no key of Odd "Name" is compared with a value
  Tables: "public"."Odd ""Name"""
  Declined: route: no key of Odd "Name" is compared with a value
  Declined: append: ORDER BY sorts rows of all regions
here> SELECT "größe", "select", "Land" FROM "Odd ""Name""" WHERE "select" <> 'é' ORDER BY 3 LIMIT 1
eu> SELECT "größe", "select", "Land" FROM to_us."Odd ""Name""" WHERE "select" <> 'é' ORDER BY 3 LIMIT 1
final []> SELECT domicile_rows.c1 AS "größe", domicile_rows.c2 AS "select" FROM unnest($1, $2, $3) AS domicile_rows (c1, c2, c3) ORDER BY domicile_rows.c3 LIMIT 1

plan expect=merge
select * from customers where country in ('DE', 'US') order by id limit 2
----
READ rows
Domicile: merge
  Regions: us, eu
  Key: country IN ('DE', 'US')
  Tables: "public"."customers"
  Declined: route: the keys may name several regions
  Declined: append: ORDER BY sorts rows of all regions
here> SELECT customers.id, customers.name, customers.email, customers.country, customers.tier, customers.born, customers.balance, customers.active, CAST(customers.tags AS pg_catalog.text), customers.nick, customers.score FROM customers WHERE country IN ('DE', 'US') ORDER BY 1 LIMIT 2
eu> SELECT customers.id, customers.name, customers.email, customers.country, customers.tier, customers.born, customers.balance, customers.active, CAST(customers.tags AS pg_catalog.text), customers.nick, customers.score FROM to_us.customers WHERE country IN ('DE', 'US') ORDER BY 1 LIMIT 2
final []> SELECT domicile_rows.c1 AS id, domicile_rows.c2 AS name, domicile_rows.c3 AS email, domicile_rows.c4 AS country, domicile_rows.c5 AS tier, domicile_rows.c6 AS born, domicile_rows.c7 AS balance, domicile_rows.c8 AS active, CAST(domicile_rows.c9 AS text[]) AS tags, domicile_rows.c10 AS nick, domicile_rows.c11 AS score FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) AS domicile_rows (c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11) ORDER BY domicile_rows.c1 LIMIT 2

# Don't: one region sorts by itself
plan expect=route
select * from customers where country = 'DE' order by id limit 2
----
READ rows
Domicile: route
  Regions: eu
  Key: country = 'DE'
  Tables: "public"."customers"
eu> select * from "to_us"."customers" where country = 'DE' order by id limit 2

plan expect=refused
select id, nick from customers order by nick limit 3
----
READ rows
Domicile: refused (0A000: can't be answered over several regions: nick has a non-deterministic collation, in which regions may differ)
  Hint: Sort by nick COLLATE "C".
  Because: no key of customers is compared with a value
  Tables: "public"."customers"
  Declined: route: no key of customers is compared with a value
  Declined: append: ORDER BY sorts rows of all regions
  Declined: merge: nick has a non-deterministic collation, in which regions may differ
  Declined: combine: nothing is added up
eu> select id, nick from "to_us"."customers" order by nick limit 3

plan expect=merge
select id, tags from customers order by id limit 3
----
READ rows
Domicile: merge
  Regions: us, eu, ap
  Because: no key of customers is compared with a value
  Tables: "public"."customers"
  Declined: route: no key of customers is compared with a value
  Declined: append: ORDER BY sorts rows of all regions
here> SELECT id, CAST(tags AS pg_catalog.text) FROM customers ORDER BY 1 LIMIT 3
eu> SELECT id, CAST(tags AS pg_catalog.text) FROM to_us.customers ORDER BY 1 LIMIT 3
final []> SELECT domicile_rows.c1 AS id, CAST(domicile_rows.c2 AS text[]) AS tags FROM unnest($1, $2) AS domicile_rows (c1, c2) ORDER BY domicile_rows.c1 LIMIT 3

plan expect=refused
select * from customers order by id using < limit 3
----
READ rows
Domicile: refused (0A000: can't be answered over several regions: ORDER BY … USING an operator)
  Hint: Compare the residency key with a value, so that one region can answer.
  Because: no key of customers is compared with a value
  Tables: "public"."customers"
  Declined: route: no key of customers is compared with a value
  Declined: append: ORDER BY sorts rows of all regions
  Declined: merge: ORDER BY … USING an operator
  Declined: combine: nothing is added up
eu> select * from "to_us"."customers" order by id using < limit 3

plan expect=refused
select * from customers order by id limit (select 3)
----
READ rows
Domicile: refused (0A000: can't be answered over several regions: LIMIT is more than a number or a parameter)
  Hint: Compare the residency key with a value, so that one region can answer.
  Because: no key of customers is compared with a value
  Tables: "public"."customers"
  Declined: route: no key of customers is compared with a value
  Declined: append: ORDER BY sorts rows of all regions
  Declined: merge: LIMIT is more than a number or a parameter
  Declined: combine: LIMIT is more than a number or a parameter
eu> select * from "to_us"."customers" order by id limit (select 3)

plan expect=refused
select id, row_number() over (order by id) from customers
----
READ rows
Domicile: refused (0A000: can't be answered over several regions: a window function)
  Hint: Compare the residency key with a value, so that one region can answer.
  Because: no key of customers is compared with a value
  Tables: "public"."customers"
  Declined: route: no key of customers is compared with a value
  Declined: append: an aggregate or a window function sees rows of all regions
  Declined: merge: an aggregate or a window function sees rows of all regions
  Declined: combine: a window function
eu> select id, row_number() over (order by id) from "to_us"."customers"

plan expect=refused
select * from customers join orders using (id) order by 1
----
READ rows
Domicile: refused (0A000: can't be answered over several regions: customers is not shown to live together with orders)
  Hint: Join the tables on the key that pins one with the other.
  Because: no key tells the region
  Tables: "public"."customers", "public"."orders"
eu> select * from "to_us"."customers" join "to_us"."orders" using (id) order by 1

plan expect=refused
select id from customers order by id limit 3 for update
----
READ rows
Domicile: refused (0A000: can't be answered over several regions: FOR UPDATE and its like lock rows in one region only)
  Hint: Compare the residency key with a value, so that one region can answer.
  Because: no key of customers is compared with a value
  Tables: "public"."customers"
  Declined: route: no key of customers is compared with a value
  Declined: append: FOR UPDATE and its like lock rows in one region only
  Declined: merge: FOR UPDATE and its like lock rows in one region only
  Declined: combine: FOR UPDATE and its like lock rows in one region only
eu> select id from "to_us"."customers" order by id limit 3 for update

# the client's own names may be those of the rows' columns
plan expect=merge
select name as c2, id as c1 from customers order by id, c2 limit 3
----
READ rows
Domicile: merge
  Regions: us, eu, ap
  Because: no key of customers is compared with a value
  Tables: "public"."customers"
  Declined: route: no key of customers is compared with a value
  Declined: append: ORDER BY sorts rows of all regions
here> SELECT name, id FROM customers ORDER BY 2, 1 LIMIT 3
eu> SELECT name, id FROM to_us.customers ORDER BY 2, 1 LIMIT 3
final []> SELECT domicile_rows.c1 AS c2, domicile_rows.c2 AS c1 FROM unnest($1, $2) AS domicile_rows (c1, c2) ORDER BY domicile_rows.c2, domicile_rows.c1 LIMIT 3

plan expect=merge
select sales.orders.amount from sales.orders order by sales.orders.id limit 3
----
READ rows
Domicile: merge
  Regions: us, eu, ap
  Because: no key of orders is compared with a value
  Tables: "sales"."orders"
  Declined: route: no key of orders is compared with a value
  Declined: append: ORDER BY sorts rows of all regions
here> SELECT sales.orders.amount, sales.orders.id FROM sales.orders ORDER BY 2 LIMIT 3
eu> SELECT "to_us$sales".orders.amount, "to_us$sales".orders.id FROM "to_us$sales".orders ORDER BY 2 LIMIT 3
final []> SELECT domicile_rows.c1 AS amount FROM unnest($1, $2) AS domicile_rows (c1, c2) ORDER BY domicile_rows.c2 LIMIT 3

plan expect=merge
select id from customers where name like 'é\%' escape '!' and nick <> E'a\nb' order by extract(year from born), trim(name), born at time zone 'utc' limit 3
----
READ rows
Domicile: merge
  Regions: us, eu, ap
  Because: no key of customers is compared with a value
  Tables: "public"."customers"
  Declined: route: no key of customers is compared with a value
  Declined: append: ORDER BY sorts rows of all regions
here> SELECT id, EXTRACT(YEAR FROM born), pg_catalog.btrim(name), pg_catalog.timezone('utc', born) FROM customers WHERE name LIKE pg_catalog.like_escape('é\%', '!') AND nick <> 'a
b' ORDER BY 2, 3, 4 LIMIT 3
eu> SELECT id, EXTRACT(YEAR FROM born), pg_catalog.btrim(name), pg_catalog.timezone('utc', born) FROM to_us.customers WHERE name LIKE pg_catalog.like_escape('é\%', '!') AND nick <> 'a
b' ORDER BY 2, 3, 4 LIMIT 3
final []> SELECT domicile_rows.c1 AS id FROM unnest($1, $2, $3, $4) AS domicile_rows (c1, c2, c3, c4) ORDER BY domicile_rows.c2, domicile_rows.c3, domicile_rows.c4 LIMIT 3

plan expect=merge
with p as (select * from products where price > 3) select i.order_id, p.name from order_items i join p on p.id = i.product_id order by 1 limit 2
----
READ rows
Domicile: merge
  Regions: us, eu, ap
  Because: no key of order_items is compared with a value
  Tables: "public"."products", "public"."order_items"
  Declined: route: no key of order_items is compared with a value
  Declined: append: ORDER BY sorts rows of all regions
here> WITH p AS (SELECT * FROM products WHERE price > 3) SELECT i.order_id, p.name FROM order_items AS i INNER JOIN p ON p.id = i.product_id ORDER BY 1 LIMIT 2
eu> WITH p AS (SELECT * FROM to_us.products WHERE price > 3) SELECT i.order_id, p.name FROM to_us.order_items AS i INNER JOIN p ON p.id = i.product_id ORDER BY 1 LIMIT 2
final []> SELECT domicile_rows.c1 AS order_id, domicile_rows.c2 AS name FROM unnest($1, $2) AS domicile_rows (c1, c2) ORDER BY domicile_rows.c1 LIMIT 2

plan expect=refused
select c from customers c order by $1 limit 3
----
READ rows
Domicile: refused (0A000: can't be answered over several regions: ORDER BY a parameter or an array)
  Hint: Compare the residency key with a value, so that one region can answer.
  Because: no key of customers is compared with a value
  Tables: "public"."customers"
  Declined: route: no key of customers is compared with a value
  Declined: append: ORDER BY sorts rows of all regions
  Declined: merge: ORDER BY a parameter or an array
  Declined: combine: nothing is added up
eu> select c from "to_us"."customers" c order by $1 limit 3

plan expect=merge
with c as (select id, name as n, tags from customers) select * from c order by n limit 3
----
READ rows
Domicile: merge
  Regions: us, eu, ap
  Because: no key of customers is compared with a value
  Tables: "public"."customers"
  Declined: route: no key of customers is compared with a value
  Declined: append: ORDER BY sorts rows of all regions
here> WITH c AS (SELECT id, name AS n, tags FROM customers) SELECT c.id, c.n, CAST(c.tags AS pg_catalog.text) FROM c ORDER BY 2 LIMIT 3
eu> WITH c AS (SELECT id, name AS n, tags FROM to_us.customers) SELECT c.id, c.n, CAST(c.tags AS pg_catalog.text) FROM c ORDER BY 2 LIMIT 3
final []> SELECT domicile_rows.c1 AS id, domicile_rows.c2 AS n, CAST(domicile_rows.c3 AS text[]) AS tags FROM unnest($1, $2, $3) AS domicile_rows (c1, c2, c3) ORDER BY domicile_rows.c2 LIMIT 3

plan expect=merge
select x.*, 1 as one from (select c.*, o.total from customers c join orders o on o.customer_id = c.id) x order by total limit 3
----
READ rows
Domicile: merge
  Regions: us, eu, ap
  Because: no key of customers, orders is compared with a value
  Tables: "public"."customers", "public"."orders"
  Declined: route: no key of customers, orders is compared with a value
  Declined: append: ORDER BY sorts rows of all regions
here> SELECT x.id, x.name, x.email, x.country, x.tier, x.born, x.balance, x.active, CAST(x.tags AS pg_catalog.text), x.nick, x.score, x.total, 1 FROM (SELECT c.*, o.total FROM customers AS c INNER JOIN orders AS o ON o.customer_id = c.id) AS x ORDER BY 12 LIMIT 3
eu> SELECT x.id, x.name, x.email, x.country, x.tier, x.born, x.balance, x.active, CAST(x.tags AS pg_catalog.text), x.nick, x.score, x.total, 1 FROM (SELECT c.*, o.total FROM to_us.customers AS c INNER JOIN to_us.orders AS o ON o.customer_id = c.id) AS x ORDER BY 12 LIMIT 3
final []> SELECT domicile_rows.c1 AS id, domicile_rows.c2 AS name, domicile_rows.c3 AS email, domicile_rows.c4 AS country, domicile_rows.c5 AS tier, domicile_rows.c6 AS born, domicile_rows.c7 AS balance, domicile_rows.c8 AS active, CAST(domicile_rows.c9 AS text[]) AS tags, domicile_rows.c10 AS nick, domicile_rows.c11 AS score, domicile_rows.c12 AS total, domicile_rows.c13 AS one FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) AS domicile_rows (c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11, c12, c13) ORDER BY domicile_rows.c12 LIMIT 3
