plan expect=append
select * from customers
----
READ rows
Domicile: append
  Regions: us, eu, ap
  Because: no key of customers is compared with a value
  Tables: "public"."customers"
  Declined: route: no key of customers is compared with a value
eu> select * from "to_us"."customers"

plan expect=append
select c.name, o.total from customers c join orders o on o.customer_id = c.id
----
READ rows
Domicile: append
  Regions: us, eu, ap
  Because: no key of customers, orders is compared with a value
  Tables: "public"."customers", "public"."orders"
  Declined: route: no key of customers, orders is compared with a value
eu> select c.name, o.total from "to_us"."customers" c join "to_us"."orders" o on o.customer_id = c.id

plan expect=append
select * from customers c join countries n on n.code = c.country
----
READ rows
Domicile: append
  Regions: us, eu, ap
  Because: no key of customers is compared with a value
  Tables: "public"."customers", "public"."countries"
  Declined: route: no key of customers is compared with a value
eu> select * from "to_us"."customers" c join "to_us"."countries" n on n.code = c.country

plan expect=append
select * from customers c where exists (select from orders o where o.customer_id = c.id)
----
READ rows
Domicile: append
  Regions: us, eu, ap
  Because: no key of customers, orders is compared with a value
  Tables: "public"."customers", "public"."orders"
  Declined: route: no key of customers, orders is compared with a value
eu> select * from "to_us"."customers" c where exists (select from "to_us"."orders" o where o.customer_id = c.id)

plan expect=append
select * from customers c where not exists (select from orders o where o.customer_id = c.id)
----
READ rows
Domicile: append
  Regions: us, eu, ap
  Because: no key of customers, orders is compared with a value
  Tables: "public"."customers", "public"."orders"
  Declined: route: no key of customers, orders is compared with a value
eu> select * from "to_us"."customers" c where not exists (select from "to_us"."orders" o where o.customer_id = c.id)

plan expect=append
select * from orders a join orders b on a.customer_id = b.customer_id
----
READ rows
Domicile: append
  Regions: us, eu, ap
  Because: no key of orders is compared with a value
  Tables: "public"."orders"
  Declined: route: no key of orders is compared with a value
eu> select * from "to_us"."orders" a join "to_us"."orders" b on a.customer_id = b.customer_id

plan expect=append
select * from customers join orders on customers.id = orders.customer_id join order_items on order_id = orders.id
----
READ rows
Domicile: append
  Regions: us, eu, ap
  Because: no key of customers, orders, order_items is compared with a value
  Tables: "public"."customers", "public"."orders", "public"."order_items"
  Declined: route: no key of customers, orders, order_items is compared with a value
eu> select * from "to_us"."customers" join "to_us"."orders" on customers.id = orders.customer_id join "to_us"."order_items" on order_id = orders.id

plan expect=append
select * from customers c, lateral (select * from orders o where o.customer_id = c.id order by total desc limit 3) top
----
READ rows
Domicile: append
  Regions: us, eu, ap
  Because: no key of customers, orders is compared with a value
  Tables: "public"."customers", "public"."orders"
  Declined: route: no key of customers, orders is compared with a value
eu> select * from "to_us"."customers" c, lateral (select * from "to_us"."orders" o where o.customer_id = c.id order by total desc limit 3) top

plan expect=append
select id, generate_series(1, 2) from customers
----
READ rows
Domicile: append
  Regions: us, eu, ap
  Because: no key of customers is compared with a value
  Tables: "public"."customers"
  Declined: route: no key of customers is compared with a value
eu> select id, generate_series(1, 2) from "to_us"."customers"

# Don't: the orders of a customer are joined by something else
plan expect=refused
select * from customers c join orders o on o.id = c.id
----
READ rows
Domicile: refused (0A000: can't be answered over several regions: customers is not shown to live together with orders)
  Hint: Join the tables on the key that pins one with the other.
  Because: no key tells the region
  Tables: "public"."customers", "public"."orders"
eu> select * from "to_us"."customers" c join "to_us"."orders" o on o.id = c.id

# Don't: each region would make up the products that it has not sold
plan expect=refused
select * from products p left join order_items i on i.product_id = p.id
----
READ rows
Domicile: refused (0A000: can't be answered over several regions: an outer join would make up rows for order_items in each region)
  Hint: Compare the residency key with a value, so that one region can answer.
  Because: no key tells the region
  Tables: "public"."products", "public"."order_items"
eu> select * from "to_us"."products" p left join "to_us"."order_items" i on i.product_id = p.id

plan expect=refused
select * from products p where exists (select from order_items i where i.product_id = p.id)
----
READ rows
Domicile: refused (0A000: can't be answered over several regions: order_items is read in a subquery that is not tied to the rows around it)
  Hint: Compare the residency key with a value, so that one region can answer.
  Because: no key tells the region
  Tables: "public"."products", "public"."order_items"
eu> select * from "to_us"."products" p where exists (select from "to_us"."order_items" i where i.product_id = p.id)

plan expect=refused
select * from customers c where tier > (select avg(tier) from customers)
----
READ rows
Domicile: refused (0A000: can't be answered over several regions: customers is not shown to live together with customers)
  Hint: Join the tables on the key that pins one with the other.
  Because: no key tells the region
  Tables: "public"."customers"
eu> select * from "to_us"."customers" c where tier > (select avg(tier) from "to_us"."customers")

plan expect=append
with c as (select * from customers) select * from c
----
READ rows
Domicile: append
  Regions: us, eu, ap
  Because: no key of customers is compared with a value
  Tables: "public"."customers"
  Declined: route: no key of customers is compared with a value
eu> with c as (select * from "to_us"."customers") select * from c

plan expect=refused
select * from customers union all select * from customers
----
READ rows
Domicile: refused (0A000: can't be answered over several regions: customers is read in UNION, INTERSECT or EXCEPT, which puts rows of all regions together)
  Hint: Compare the residency key with a value, so that one region can answer.
  Because: no key tells the region
  Tables: "public"."customers"
eu> select * from "to_us"."customers" union all select * from "to_us"."customers"

plan expect=refused
select ctid from customers
----
READ rows
Domicile: refused (0A000: the system column ctid is not to be seen from another region)
  Hint: Name the row by its primary key.
  Because: no key of customers is compared with a value
  Tables: "public"."customers"
  Declined: route: no key of customers is compared with a value
  Declined: append: the system column ctid means nothing over several regions
  Declined: merge: the system column ctid means nothing over several regions
  Declined: combine: the system column ctid means nothing over several regions
  Only here: the system column ctid is not to be seen from another region
eu> select ctid from "to_us"."customers"

plan expect=refused
select * from customers, visits
----
READ rows
Domicile: refused (0A000: visits is a table of this region alone, and the statement needs rows of another region)
  Hint: Make it global or pin it (ALTER TABLE … SET LOCALITY …), or ask for rows of this region only.
  Because: no key of customers is compared with a value
  Tables: "public"."customers"
  Declined: route: no key of customers is compared with a value
  Only here: visits is a table of this region alone, and the statement needs rows of another region
eu> select * from "to_us"."customers", visits

plan expect=append
copy customers to stdout
----
COPY_OUT
Domicile: append
  Regions: us, eu, ap
  Because: no key of customers is compared with a value
  Tables: "public"."customers"
  Declined: route: no key of customers is compared with a value
eu> copy (SELECT "id", "name", "email", "country", "tier", "born", "balance", "active", "tags", "nick", "score" FROM "to_us"."customers") to stdout

plan expect=append
copy customers (id, "name") to stdout (format csv, header)
----
COPY_OUT
Domicile: append
  Regions: us, eu, ap
  Because: no key of customers is compared with a value
  Tables: "public"."customers"
  Declined: route: no key of customers is compared with a value
eu> copy (SELECT "id", "name" FROM "to_us"."customers") to stdout (format csv, header)

plan expect=route
copy (select * from customers where country = 'DE') to stdout (format binary)
----
COPY_OUT
Domicile: route
  Regions: eu
  Key: country = 'DE'
  Tables: "public"."customers"
eu> copy (select * from "to_us"."customers" where country = 'DE') to stdout (format binary)

plan expect=refused
copy customers to stdout (format binary)
----
COPY_OUT
Domicile: refused (0A000: COPY TO in binary format over several regions)
  Hint: Use text or csv format.
  Because: no key of customers is compared with a value
  Tables: "public"."customers"
  Declined: route: no key of customers is compared with a value
eu> copy (SELECT "id", "name", "email", "country", "tier", "born", "balance", "active", "tags", "nick", "score" FROM "to_us"."customers") to stdout (format binary)

plan expect=refused
copy (select * from customers order by id) to stdout
----
COPY_OUT
Domicile: refused (0A000: can't be answered over several regions: only a SELECT can be put together from several regions)
  Hint: Compare the residency key with a value, so that one region can answer.
  Because: no key of customers is compared with a value
  Tables: "public"."customers"
  Declined: route: no key of customers is compared with a value
  Declined: append: ORDER BY sorts rows of all regions
  Declined: merge: only a SELECT can be put together from several regions
  Declined: combine: only a SELECT can be put together from several regions
eu> copy (select * from "to_us"."customers" order by id) to stdout

plan expect=error
copy customers to '/tmp/x'
----
ERROR 0A000: COPY to or from a file or program passes by the gateway, so it can't touch a managed table
HINT: Use COPY … FROM STDIN and TO STDOUT (psql: \copy).

# a CTE that is read once is a subquery of FROM
plan expect=append
with c as (select id, country as land from customers where tier = 1) select c.*, o.total from c join orders o on o.customer_id = c.id where c.land in ('DE', 'US')
----
READ rows
Domicile: append
  Regions: us, eu
  Key: country IN ('DE', 'US')
  Tables: "public"."customers", "public"."orders"
  Declined: route: the keys may name several regions
eu> with c as (select id, country as land from "to_us"."customers" where tier = 1) select c.*, o.total from c join "to_us"."orders" o on o.customer_id = c.id where c.land in ('DE', 'US')

# Don't: read twice, it is not
plan expect=refused
with c as (select * from customers) select * from c a join c b on a.id = b.id
----
READ rows
Domicile: refused (0A000: can't be answered over several regions: customers is read in a WITH that looks at rows of all regions, or is itself read more than once)
  Hint: Compare the residency key with a value, so that one region can answer.
  Because: no key tells the region
  Tables: "public"."customers"
eu> with c as (select * from "to_us"."customers") select * from c a join c b on a.id = b.id

# Don't: its columns have other names
plan expect=refused
with c (id) as (select country from customers) select * from c join orders o on o.customer_id = c.id
----
READ rows
Domicile: refused (0A000: can't be answered over several regions: customers is read in a WITH that looks at rows of all regions, or is itself read more than once)
  Hint: Compare the residency key with a value, so that one region can answer.
  Because: no key tells the region
  Tables: "public"."customers", "public"."orders"
eu> with c (id) as (select country from "to_us"."customers") select * from c join "to_us"."orders" o on o.customer_id = c.id

plan expect=refused
with c as (select * from customers limit 5) select * from c
----
READ rows
Domicile: refused (0A000: can't be answered over several regions: customers is read in a WITH that looks at rows of all regions, or is itself read more than once)
  Hint: Compare the residency key with a value, so that one region can answer.
  Because: no key tells the region
  Tables: "public"."customers"
eu> with c as (select * from "to_us"."customers" limit 5) select * from c

plan expect=refused
with recursive c as (select id from customers union all select id + 1 from c where id < 5) select * from c
----
READ rows
Domicile: refused (0A000: can't be answered over several regions: WITH RECURSIVE may walk from one region's rows to another's)
  Hint: Compare the residency key with a value, so that one region can answer.
  Because: no key tells the region
  Tables: "public"."customers"
eu> with recursive c as (select id from "to_us"."customers" union all select id + 1 from c where id < 5) select * from c

plan expect=error
copy (insert into customers (id, country) values (1, 'DE') returning id) to stdout
----
ERROR 0A000: COPY of a statement that writes a managed table
HINT: Run it with RETURNING by itself.

plan expect=append
copy (select id, name from customers where tier = 1) to stdout (format csv, header)
----
COPY_OUT
Domicile: append
  Regions: us, eu, ap
  Because: no key of customers is compared with a value
  Tables: "public"."customers"
  Declined: route: no key of customers is compared with a value
eu> copy (select id, name from "to_us"."customers" where tier = 1) to stdout (format csv, header)
