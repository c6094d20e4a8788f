plan expect=combine
select count(*) from customers
----
READ rows
Domicile: combine
  Regions: us, eu, ap
  Because: no key of customers is compared with a value
  Tables: "public"."customers"
  Declined: route: no key of customers is compared with a value
  Declined: append: an aggregate or a window function sees rows of all regions
  Declined: merge: an aggregate or a window function sees rows of all regions
here> SELECT count(*) FROM customers
eu> SELECT count(*) FROM to_us.customers
final []> SELECT CAST(COALESCE(pg_catalog.sum(domicile_rows.c1), 0) AS bigint) AS count FROM unnest($1) AS domicile_rows (c1)

plan expect=combine
select count(*), count(email) filter (where tier > 1), sum(tier), avg(tier), min(name), max(born) from customers
----
READ rows
Domicile: combine
  Regions: us, eu, ap
  Because: no key of customers is compared with a value
  Tables: "public"."customers"
  Declined: route: no key of customers is compared with a value
  Declined: append: an aggregate or a window function sees rows of all regions
  Declined: merge: an aggregate or a window function sees rows of all regions
here> SELECT count(*), count(email) FILTER (WHERE tier > 1), sum(tier), pg_catalog.sum(tier), pg_catalog.count(tier), min(name), max(born) FROM customers
eu> SELECT count(*), count(email) FILTER (WHERE tier > 1), sum(tier), pg_catalog.sum(tier), pg_catalog.count(tier), min(name), max(born) FROM to_us.customers
final []> SELECT CAST(COALESCE(pg_catalog.sum(domicile_rows.c1), 0) AS bigint) AS count, CAST(COALESCE(pg_catalog.sum(domicile_rows.c2), 0) AS bigint) AS count, CAST(pg_catalog.sum(domicile_rows.c3) AS bigint) AS sum, pg_catalog.sum(domicile_rows.c4) / NULLIF(pg_catalog.sum(domicile_rows.c5), 0) AS avg, pg_catalog.min(domicile_rows.c6) AS min, pg_catalog.max(domicile_rows.c7) AS max FROM unnest($1, $2, $3, $4, $5, $6, $7) AS domicile_rows (c1, c2, c3, c4, c5, c6, c7)

plan expect=combine
select country, count(*) as n, sum(balance) from customers group by country having count(*) > 10 order by n desc limit 3
----
READ rows
Domicile: combine
  Regions: us, eu, ap
  Because: no key of customers is compared with a value
  Tables: "public"."customers"
  Declined: route: no key of customers is compared with a value
  Declined: append: GROUP BY gathers rows of all regions
  Declined: merge: an aggregate or a window function sees rows of all regions
here> SELECT country, count(*), sum(balance) FROM customers GROUP BY 1
eu> SELECT country, count(*), sum(balance) FROM to_us.customers GROUP BY 1
final []> SELECT domicile_rows.c1 AS country, CAST(COALESCE(pg_catalog.sum(domicile_rows.c2), 0) AS bigint) AS n, pg_catalog.sum(domicile_rows.c3) AS sum FROM unnest($1, $2, $3) AS domicile_rows (c1, c2, c3) GROUP BY domicile_rows.c1 HAVING CAST(COALESCE(pg_catalog.sum(domicile_rows.c2), 0) AS bigint) > 10 ORDER BY 2 DESC LIMIT 3

plan expect=combine
select date_trunc('month', o.placed) as month, c.tier, sum(o.total) / count(*) as mean, avg(o.total) from customers c join orders o on o.customer_id = c.id group by 1, 2 order by 1, 2
----
READ rows
Domicile: combine
  Regions: us, eu, ap
  Because: no key of customers, orders is compared with a value
  Tables: "public"."customers", "public"."orders"
  Declined: route: no key of customers, orders is compared with a value
  Declined: append: GROUP BY gathers rows of all regions
  Declined: merge: an aggregate or a window function sees rows of all regions
here> SELECT date_trunc('month', o.placed), c.tier, sum(o.total), count(*), pg_catalog.sum(o.total), pg_catalog.count(o.total) FROM customers AS c INNER JOIN orders AS o ON o.customer_id = c.id GROUP BY 1, 2
eu> SELECT date_trunc('month', o.placed), c.tier, sum(o.total), count(*), pg_catalog.sum(o.total), pg_catalog.count(o.total) FROM to_us.customers AS c INNER JOIN to_us.orders AS o ON o.customer_id = c.id GROUP BY 1, 2
final []> SELECT domicile_rows.c1 AS month, domicile_rows.c2 AS tier, pg_catalog.sum(domicile_rows.c3) / CAST(COALESCE(pg_catalog.sum(domicile_rows.c4), 0) AS bigint) AS mean, pg_catalog.sum(domicile_rows.c5) / NULLIF(pg_catalog.sum(domicile_rows.c6), 0) AS avg FROM unnest($1, $2, $3, $4, $5, $6) AS domicile_rows (c1, c2, c3, c4, c5, c6) GROUP BY domicile_rows.c1, domicile_rows.c2 ORDER BY 1, 2

plan expect=combine $1=day $2=5
select date_trunc($1, placed), count(*) + $2 from orders group by date_trunc($1, placed) having count(*) > $3 order by 1 limit $4
----
READ rows
Domicile: combine
  Regions: us, eu, ap
  Because: no key of orders is compared with a value
  Tables: "public"."orders"
  Declined: route: no key of orders is compared with a value
  Declined: append: GROUP BY gathers rows of all regions
  Declined: merge: an aggregate or a window function sees rows of all regions
here> SELECT date_trunc($1, placed), count(*) FROM orders GROUP BY 1
eu> SELECT date_trunc($1, placed), count(*) FROM to_us.orders GROUP BY 1
final [2, 3, 4]> SELECT domicile_rows.c1 AS date_trunc, CAST(COALESCE(pg_catalog.sum(domicile_rows.c2), 0) AS bigint) + $3 AS "?column?" FROM unnest($1, $2) AS domicile_rows (c1, c2) GROUP BY domicile_rows.c1 HAVING CAST(COALESCE(pg_catalog.sum(domicile_rows.c2), 0) AS bigint) > $4 ORDER BY 1 LIMIT $5

plan expect=combine
select distinct country, tier from customers order by tier desc limit 5
----
READ rows
Domicile: combine
  Regions: us, eu, ap
  Because: no key of customers is compared with a value
  Tables: "public"."customers"
  Declined: route: no key of customers is compared with a value
  Declined: append: DISTINCT compares rows of all regions
  Declined: merge: DISTINCT or GROUP BY gathers rows of all regions
here> SELECT DISTINCT country, tier FROM customers
eu> SELECT DISTINCT country, tier FROM to_us.customers
final []> SELECT DISTINCT domicile_rows.c1 AS country, domicile_rows.c2 AS tier FROM unnest($1, $2) AS domicile_rows (c1, c2) ORDER BY 2 DESC LIMIT 5

plan expect=combine
select count(*) + 1, coalesce(sum(tier), 0), max(id) from customers where active
----
READ rows
Domicile: combine
  Regions: us, eu, ap
  Because: no key of customers is compared with a value
  Tables: "public"."customers"
  Declined: route: no key of customers is compared with a value
  Declined: append: an aggregate or a window function sees rows of all regions
  Declined: merge: an aggregate or a window function sees rows of all regions
here> SELECT count(*), sum(tier), max(id) FROM customers WHERE active
eu> SELECT count(*), sum(tier), max(id) FROM to_us.customers WHERE active
final []> SELECT CAST(COALESCE(pg_catalog.sum(domicile_rows.c1), 0) AS bigint) + 1 AS "?column?", COALESCE(CAST(pg_catalog.sum(domicile_rows.c2) AS bigint), 0) AS coalesce, pg_catalog.max(domicile_rows.c3) AS max FROM unnest($1, $2, $3) AS domicile_rows (c1, c2, c3)

plan expect=combine
select avg(score), sum(score), avg(tier::real), bool_and(active), every(active), bit_or(tier) from customers
----
READ rows
Domicile: combine
  Regions: us, eu, ap
  Because: no key of customers is compared with a value
  Tables: "public"."customers"
  Declined: route: no key of customers is compared with a value
  Declined: append: an aggregate or a window function sees rows of all regions
  Declined: merge: an aggregate or a window function sees rows of all regions
here> SELECT pg_catalog.sum(score), pg_catalog.count(score), sum(score), pg_catalog.sum(CAST(CAST(tier AS real) AS double precision)), pg_catalog.count(CAST(tier AS real)), bool_and(active), every(active), bit_or(tier) FROM customers
eu> SELECT pg_catalog.sum(score), pg_catalog.count(score), sum(score), pg_catalog.sum(CAST(CAST(tier AS real) AS double precision)), pg_catalog.count(CAST(tier AS real)), bool_and(active), every(active), bit_or(tier) FROM to_us.customers
final []> SELECT pg_catalog.sum(domicile_rows.c1) / CAST(NULLIF(pg_catalog.sum(domicile_rows.c2), 0) AS double precision) AS avg, pg_catalog.sum(domicile_rows.c3) AS sum, pg_catalog.sum(domicile_rows.c4) / CAST(NULLIF(pg_catalog.sum(domicile_rows.c5), 0) AS double precision) AS avg, pg_catalog.bool_and(domicile_rows.c6) AS bool_and, pg_catalog.every(domicile_rows.c7) AS every, pg_catalog.bit_or(domicile_rows.c8) AS bit_or FROM unnest($1, $2, $3, $4, $5, $6, $7, $8) AS domicile_rows (c1, c2, c3, c4, c5, c6, c7, c8)

plan expect=combine
select sum(total * items), sum(items), sum(case when status = 'new' then 1 else 0 end) from orders
----
READ rows
Domicile: combine
  Regions: us, eu, ap
  Because: no key of orders is compared with a value
  Tables: "public"."orders"
  Declined: route: no key of orders is compared with a value
  Declined: append: an aggregate or a window function sees rows of all regions
  Declined: merge: an aggregate or a window function sees rows of all regions
here> SELECT sum(total * items), sum(items), sum(CASE WHEN status = 'new' THEN 1 ELSE 0 END) FROM orders
eu> SELECT sum(total * items), sum(items), sum(CASE WHEN status = 'new' THEN 1 ELSE 0 END) FROM to_us.orders
final []> SELECT pg_catalog.sum(domicile_rows.c1) AS sum, CAST(pg_catalog.sum(domicile_rows.c2) AS bigint) AS sum, CAST(pg_catalog.sum(domicile_rows.c3) AS bigint) AS sum FROM unnest($1, $2, $3) AS domicile_rows (c1, c2, c3)

plan expect=combine
select country from customers group by country
----
READ rows
Domicile: combine
  Regions: us, eu, ap
  Because: no key of customers is compared with a value
  Tables: "public"."customers"
  Declined: route: no key of customers is compared with a value
  Declined: append: GROUP BY gathers rows of all regions
  Declined: merge: DISTINCT or GROUP BY gathers rows of all regions
here> SELECT country FROM customers GROUP BY 1
eu> SELECT country FROM to_us.customers GROUP BY 1
final []> SELECT domicile_rows.c1 AS country FROM unnest($1) AS domicile_rows (c1) GROUP BY domicile_rows.c1

plan expect=combine
select case when tier > 2 then 'a' else 'b' end as class, count(*) from customers group by class
----
READ rows
Domicile: combine
  Regions: us, eu, ap
  Because: no key of customers is compared with a value
  Tables: "public"."customers"
  Declined: route: no key of customers is compared with a value
  Declined: append: GROUP BY gathers rows of all regions
  Declined: merge: an aggregate or a window function sees rows of all regions
here> SELECT CASE WHEN tier > 2 THEN 'a' ELSE 'b' END, count(*) FROM customers GROUP BY 1
eu> SELECT CASE WHEN tier > 2 THEN 'a' ELSE 'b' END, count(*) FROM to_us.customers GROUP BY 1
final []> SELECT domicile_rows.c1 AS class, CAST(COALESCE(pg_catalog.sum(domicile_rows.c2), 0) AS bigint) AS count FROM unnest($1, $2) AS domicile_rows (c1, c2) GROUP BY domicile_rows.c1

plan expect=combine
select p.name, sum(i.quantity * i.price) from order_items i join products p on p.id = i.product_id group by p.name order by sum(i.quantity * i.price) desc limit 10
----
READ rows
Domicile: combine
  Regions: us, eu, ap
  Because: no key of order_items is compared with a value
  Tables: "public"."order_items", "public"."products"
  Declined: route: no key of order_items is compared with a value
  Declined: append: GROUP BY gathers rows of all regions
  Declined: merge: an aggregate or a window function sees rows of all regions
here> SELECT p.name, sum(i.quantity * i.price) FROM order_items AS i INNER JOIN products AS p ON p.id = i.product_id GROUP BY 1
eu> SELECT p.name, sum(i.quantity * i.price) FROM to_us.order_items AS i INNER JOIN to_us.products AS p ON p.id = i.product_id GROUP BY 1
final []> SELECT domicile_rows.c1 AS name, pg_catalog.sum(domicile_rows.c2) AS sum FROM unnest($1, $2) AS domicile_rows (c1, c2) GROUP BY domicile_rows.c1 ORDER BY 2 DESC LIMIT 10

plan expect=combine
select count(*) from customers where country in ('DE', 'US')
----
READ rows
Domicile: combine
  Regions: us, eu
  Key: country IN ('DE', 'US')
  Tables: "public"."customers"
  Declined: route: the keys may name several regions
  Declined: append: an aggregate or a window function sees rows of all regions
  Declined: merge: an aggregate or a window function sees rows of all regions
here> SELECT count(*) FROM customers WHERE country IN ('DE', 'US')
eu> SELECT count(*) FROM to_us.customers WHERE country IN ('DE', 'US')
final []> SELECT CAST(COALESCE(pg_catalog.sum(domicile_rows.c1), 0) AS bigint) AS count FROM unnest($1) AS domicile_rows (c1)

# Don't: one region answers by itself
plan expect=route
select count(distinct name) from customers where country = 'DE'
----
READ rows
Domicile: route
  Regions: eu
  Key: country = 'DE'
  Tables: "public"."customers"
eu> select count(distinct name) from "to_us"."customers" where country = 'DE'

plan expect=refused
select count(distinct name) from customers
----
READ rows
Domicile: refused (0A000: can't be answered over several regions: count(DISTINCT …))
  Hint: Compare the residency key with a value, so that one region can answer.
  Because: no key of customers is compared with a value
  Tables: "public"."customers"
  Declined: route: no key of customers is compared with a value
  Declined: append: an aggregate or a window function sees rows of all regions
  Declined: merge: an aggregate or a window function sees rows of all regions
  Declined: combine: count(DISTINCT …)
eu> select count(distinct name) from "to_us"."customers"

plan expect=refused
select string_agg(name, ',' order by name) from customers
----
READ rows
Domicile: refused (0A000: can't be answered over several regions: string_agg(… ORDER BY …))
  Hint: Compare the residency key with a value, so that one region can answer.
  Because: no key of customers is compared with a value
  Tables: "public"."customers"
  Declined: route: no key of customers is compared with a value
  Declined: append: an aggregate or a window function sees rows of all regions
  Declined: merge: an aggregate or a window function sees rows of all regions
  Declined: combine: string_agg(… ORDER BY …)
eu> select string_agg(name, ',' order by name) from "to_us"."customers"

plan expect=refused
select array_agg(id) from customers
----
READ rows
Domicile: refused (0A000: can't be answered over several regions: array_agg)
  Hint: Aggregates that can be added up are count, sum, avg, min, max, bool_and, bool_or, every, bit_and, bit_or, bit_xor and any_value.
  Because: no key of customers is compared with a value
  Tables: "public"."customers"
  Declined: route: no key of customers is compared with a value
  Declined: append: an aggregate or a window function sees rows of all regions
  Declined: merge: an aggregate or a window function sees rows of all regions
  Declined: combine: array_agg
eu> select array_agg(id) from "to_us"."customers"

plan expect=refused
select percentile_cont(0.5) within group (order by tier) from customers
----
READ rows
Domicile: refused (0A000: can't be answered over several regions: percentile_cont)
  Hint: Compare the residency key with a value, so that one region can answer.
  Because: no key of customers is compared with a value
  Tables: "public"."customers"
  Declined: route: no key of customers is compared with a value
  Declined: append: an aggregate or a window function sees rows of all regions
  Declined: merge: an aggregate or a window function sees rows of all regions
  Declined: combine: percentile_cont
eu> select percentile_cont(0.5) within group (order by tier) from "to_us"."customers"

plan expect=refused
select stddev(tier) from customers
----
READ rows
Domicile: refused (0A000: can't be answered over several regions: stddev)
  Hint: Aggregates that can be added up are count, sum, avg, min, max, bool_and, bool_or, every, bit_and, bit_or, bit_xor and any_value.
  Because: no key of customers is compared with a value
  Tables: "public"."customers"
  Declined: route: no key of customers is compared with a value
  Declined: append: an aggregate or a window function sees rows of all regions
  Declined: merge: an aggregate or a window function sees rows of all regions
  Declined: combine: stddev
eu> select stddev(tier) from "to_us"."customers"

plan expect=refused
select country, count(*) from customers group by rollup (country)
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
eu> select country, count(*) from "to_us"."customers" group by rollup (country)

plan expect=refused
select country, rank() over (order by count(*)) from customers group by country
----
READ rows
Domicile: refused (0A000: can't be answered over several regions: a window function)
  Hint: Compare the residency key with a value, so that one region can answer.
  Because: no key of customers is compared with a value
  Tables: "public"."customers"
  Declined: route: no key of customers is compared with a value
  Declined: append: GROUP BY gathers rows of all regions
  Declined: merge: an aggregate or a window function sees rows of all regions
  Declined: combine: a window function
eu> select country, rank() over (order by count(*)) from "to_us"."customers" group by country

plan expect=refused
select distinct on (country) id from customers
----
READ rows
Domicile: refused (0A000: can't be answered over several regions: DISTINCT ON)
  Hint: Compare the residency key with a value, so that one region can answer.
  Because: no key of customers is compared with a value
  Tables: "public"."customers"
  Declined: route: no key of customers is compared with a value
  Declined: append: DISTINCT compares rows of all regions
  Declined: merge: DISTINCT or GROUP BY gathers rows of all regions
  Declined: combine: DISTINCT ON
eu> select distinct on (country) id from "to_us"."customers"

plan expect=combine
select id, name, count(*) from customers group by id
----
READ rows
Domicile: combine
  Regions: us, eu, ap
  Because: no key of customers is compared with a value
  Tables: "public"."customers"
  Declined: route: no key of customers is compared with a value
  Declined: append: GROUP BY gathers rows of all regions
  Declined: merge: an aggregate or a window function sees rows of all regions
here> SELECT id, name, count(*) FROM customers GROUP BY 1, 2
eu> SELECT id, name, count(*) FROM to_us.customers GROUP BY 1, 2
final []> SELECT domicile_rows.c1 AS id, domicile_rows.c2 AS name, CAST(COALESCE(pg_catalog.sum(domicile_rows.c3), 0) AS bigint) AS count FROM unnest($1, $2, $3) AS domicile_rows (c1, c2, c3) GROUP BY domicile_rows.c1, domicile_rows.c2

plan expect=refused
select sum(my_value) from customers, values_of_mine
----
READ rows
Domicile: refused (0A000: values_of_mine is a table of this region alone, and the statement needs rows of another region)
  Hint: Make it global or pin it (ALTER TABLE … SET LOCALITY …), or ask for rows of this region only.
  Because: no key of customers is compared with a value
  Tables: "public"."customers"
  Declined: route: no key of customers is compared with a value
  Declined: append: an aggregate or a window function sees rows of all regions
  Declined: merge: an aggregate or a window function sees rows of all regions
  Declined: combine: the type of sum(my_value) is not known
  Only here: values_of_mine is a table of this region alone, and the statement needs rows of another region
eu> select sum(my_value) from "to_us"."customers", values_of_mine

plan expect=refused
select sum(body->'n') from events
----
READ rows
Domicile: refused (0A000: can't be answered over several regions: the type of sum(body -> 'n') is not known)
  Hint: Say it: sum((body -> 'n')::numeric).
  Because: no key of events is compared with a value
  Tables: "public"."events"
  Declined: route: no key of events is compared with a value
  Declined: append: an aggregate or a window function sees rows of all regions
  Declined: merge: an aggregate or a window function sees rows of all regions
  Declined: combine: the type of sum(body -> 'n') is not known
eu> select sum(body->'n') from "to_us"."events"

plan expect=refused
select nick, count(*) from customers group by nick
----
READ rows
Domicile: refused (0A000: can't be answered over several regions: nick has a non-deterministic collation, in which regions may differ)
  Hint: Sort by nick COLLATE "C".
  Because: no key of customers is compared with a value
  Tables: "public"."customers"
  Declined: route: no key of customers is compared with a value
  Declined: append: GROUP BY gathers rows of all regions
  Declined: merge: an aggregate or a window function sees rows of all regions
  Declined: combine: nick has a non-deterministic collation, in which regions may differ
eu> select nick, count(*) from "to_us"."customers" group by nick

plan expect=refused
select count(*) from customers union select count(*) from orders
----
READ rows
Domicile: refused (0A000: can't be answered over several regions: customers is read in UNION, INTERSECT or EXCEPT, which puts rows of all regions together)
  Hint: Compare the residency key with a value, so that one region can answer.
  Because: no key tells the region
  Tables: "public"."customers", "public"."orders"
eu> select count(*) from "to_us"."customers" union select count(*) from "to_us"."orders"

plan expect=refused
with c as (select count(*) from customers) select * from c
----
READ rows
Domicile: refused (0A000: can't be answered over several regions: customers is read in a WITH that looks at rows of all regions, or is itself read more than once)
  Hint: Compare the residency key with a value, so that one region can answer.
  Because: no key tells the region
  Tables: "public"."customers"
eu> with c as (select count(*) from "to_us"."customers") select * from c

plan expect=refused
select json_arrayagg(id) from customers
----
READ rows
Domicile: refused (0A000: can't be answered over several regions: JSON_OBJECTAGG or JSON_ARRAYAGG)
  Hint: Compare the residency key with a value, so that one region can answer.
  Because: no key of customers is compared with a value
  Tables: "public"."customers"
  Declined: route: no key of customers is compared with a value
  Declined: append: an aggregate or a window function sees rows of all regions
  Declined: merge: an aggregate or a window function sees rows of all regions
  Declined: combine: JSON_OBJECTAGG or JSON_ARRAYAGG
eu> select json_arrayagg(id) from "to_us"."customers"

plan expect=combine
select country as c2, count(*) as c1 from customers group by country order by country, c1
----
READ rows
Domicile: combine
  Regions: us, eu, ap
  Because: no key of customers is compared with a value
  Tables: "public"."customers"
  Declined: route: no key of customers is compared with a value
  Declined: append: GROUP BY gathers rows of all regions
  Declined: merge: an aggregate or a window function sees rows of all regions
here> SELECT country, count(*) FROM customers GROUP BY 1
eu> SELECT country, count(*) FROM to_us.customers GROUP BY 1
final []> SELECT domicile_rows.c1 AS c2, CAST(COALESCE(pg_catalog.sum(domicile_rows.c2), 0) AS bigint) AS c1 FROM unnest($1, $2) AS domicile_rows (c1, c2) GROUP BY domicile_rows.c1 ORDER BY 1, 2

plan expect=combine
select lower(country) || 'x', max(balance) from public.customers where public.customers.tier > 1 group by lower(country) having max(public.customers.balance) > 3 order by lower(country) collate "C" desc
----
READ rows
Domicile: combine
  Regions: us, eu, ap
  Because: no key of customers is compared with a value
  Tables: "public"."customers"
  Declined: route: no key of customers is compared with a value
  Declined: append: GROUP BY gathers rows of all regions
  Declined: merge: an aggregate or a window function sees rows of all regions
here> SELECT lower(country), max(balance), max(public.customers.balance) FROM public.customers WHERE public.customers.tier > 1 GROUP BY 1
eu> SELECT lower(country), max(balance), max(to_us.customers.balance) FROM to_us.customers WHERE to_us.customers.tier > 1 GROUP BY 1
final []> SELECT domicile_rows.c1 || 'x' AS "?column?", pg_catalog.max(domicile_rows.c2) AS max FROM unnest($1, $2, $3) AS domicile_rows (c1, c2, c3) GROUP BY domicile_rows.c1 HAVING pg_catalog.max(domicile_rows.c3) > 3 ORDER BY domicile_rows.c1 COLLATE "C" DESC

# Don't: the output's name is also a column's, which GROUP BY takes first
plan expect=refused
select lower(country) as country, count(*) from customers group by country having max(tier) > min(email) and max(nick) > 'a'
----
READ rows
Domicile: refused (0A000: can't be answered over several regions: nick has a non-deterministic collation, in which regions may differ)
  Hint: Sort by nick COLLATE "C".
  Because: no key of customers is compared with a value
  Tables: "public"."customers"
  Declined: route: no key of customers is compared with a value
  Declined: append: GROUP BY gathers rows of all regions
  Declined: merge: an aggregate or a window function sees rows of all regions
  Declined: combine: nick has a non-deterministic collation, in which regions may differ
eu> select lower(country) as country, count(*) from "to_us"."customers" group by country having max(tier) > min(email) and max(nick) > 'a'

# columns that depend on a grouped primary key: abroad they stand in GROUP BY, for there the table is a view
plan expect=combine
select c.*, count(o.id) as n, lower(c.name) from customers c left join orders o on o.customer_id = c.id group by c.id having c.tier > 1 order by n desc, c.balance limit 3
----
READ rows
Domicile: combine
  Regions: us, eu, ap
  Because: no key of customers, orders is compared with a value
  Tables: "public"."customers", "public"."orders"
  Declined: route: no key of customers, orders is compared with a value
  Declined: append: GROUP BY gathers rows of all regions
  Declined: merge: an aggregate or a window function sees rows of all regions
here> SELECT c.id, c.name, c.email, c.country, c.tier, c.born, c.balance, c.active, CAST(c.tags AS pg_catalog.text), c.nick, c.score, count(o.id) FROM customers AS c LEFT JOIN orders AS o ON o.customer_id = c.id GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11
eu> SELECT c.id, c.name, c.email, c.country, c.tier, c.born, c.balance, c.active, CAST(c.tags AS pg_catalog.text), c.nick, c.score, count(o.id) FROM to_us.customers AS c LEFT JOIN to_us.orders AS o ON o.customer_id = c.id GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11
final []> SELECT domicile_rows.c1 AS id, domicile_rows.c2 AS name, domicile_rows.c3 AS email, domicile_rows.c4 AS country, domicile_rows.c5 AS tier, domicile_rows.c6 AS born, domicile_rows.c7 AS balance, domicile_rows.c8 AS active, CAST(domicile_rows.c9 AS text[]) AS tags, domicile_rows.c10 AS nick, domicile_rows.c11 AS score, CAST(COALESCE(pg_catalog.sum(domicile_rows.c12), 0) AS bigint) AS n, lower(domicile_rows.c2) AS lower FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) AS domicile_rows (c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11, c12) GROUP BY domicile_rows.c1, domicile_rows.c2, domicile_rows.c3, domicile_rows.c4, domicile_rows.c5, domicile_rows.c6, domicile_rows.c7, domicile_rows.c8, domicile_rows.c9, domicile_rows.c10, domicile_rows.c11 HAVING domicile_rows.c5 > 1 ORDER BY 12 DESC, 7 LIMIT 3

plan expect=combine
select customers.country, count(*) from customers group by country order by customers.country
----
READ rows
Domicile: combine
  Regions: us, eu, ap
  Because: no key of customers is compared with a value
  Tables: "public"."customers"
  Declined: route: no key of customers is compared with a value
  Declined: append: GROUP BY gathers rows of all regions
  Declined: merge: an aggregate or a window function sees rows of all regions
here> SELECT country, count(*) FROM customers GROUP BY 1
eu> SELECT country, count(*) FROM to_us.customers GROUP BY 1
final []> SELECT domicile_rows.c1 AS country, CAST(COALESCE(pg_catalog.sum(domicile_rows.c2), 0) AS bigint) AS count FROM unnest($1, $2) AS domicile_rows (c1, c2) GROUP BY domicile_rows.c1 ORDER BY 1

plan expect=route
select c.id, name, count(*) from customers c join orders o on o.customer_id = c.id where c.country = 'DE' group by c.id
----
READ rows
Domicile: route
  Regions: eu
  Key: country = 'DE'
  Tables: "public"."customers", "public"."orders"
eu> SELECT c.id, name, count(*) FROM to_us.customers AS c INNER JOIN to_us.orders AS o ON o.customer_id = c.id WHERE c.country = 'DE' GROUP BY c.id, name

plan expect=refused
select o.status, c.name, count(*) from customers c join orders o on o.customer_id = c.id group by o.id, o.status
----
READ rows
Domicile: refused (0A000: can't be answered over several regions: c.name is neither grouped by nor in an aggregate)
  Hint: Add c.name to GROUP BY.
  Because: no key of customers, orders is compared with a value
  Tables: "public"."customers", "public"."orders"
  Declined: route: no key of customers, orders is compared with a value
  Declined: append: GROUP BY gathers rows of all regions
  Declined: merge: an aggregate or a window function sees rows of all regions
  Declined: combine: c.name is neither grouped by nor in an aggregate
eu> select o.status, c.name, count(*) from "to_us"."customers" c join "to_us"."orders" o on o.customer_id = c.id group by o.id, o.status

plan expect=combine
with c as (select * from customers where active) select country, sum(balance) from c group by country
----
READ rows
Domicile: combine
  Regions: us, eu, ap
  Because: no key of customers is compared with a value
  Tables: "public"."customers"
  Declined: route: no key of customers is compared with a value
  Declined: append: GROUP BY gathers rows of all regions
  Declined: merge: an aggregate or a window function sees rows of all regions
here> WITH c AS (SELECT * FROM customers WHERE active) SELECT country, sum(balance) FROM c GROUP BY 1
eu> WITH c AS (SELECT * FROM to_us.customers WHERE active) SELECT country, sum(balance) FROM c GROUP BY 1
final []> SELECT domicile_rows.c1 AS country, pg_catalog.sum(domicile_rows.c2) AS sum FROM unnest($1, $2) AS domicile_rows (c1, c2) GROUP BY domicile_rows.c1
