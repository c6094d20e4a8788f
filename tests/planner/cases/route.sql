plan expect=route
select * from customers where country = 'DE'
----
READ rows
Domicile: route
  Regions: eu
  Key: country = 'DE'
  Tables: "public"."customers"
eu> select * from "to_us"."customers" where country = 'DE'

# Don't: unequal is no key
plan expect=append
select * from customers where country <> 'DE'
----
READ rows
Domicile: append
  Regions: us, eu, ap
  Because: no key of customers is compared with a value
  Tables: "public"."customers"
  Declined: route: no key of customers is compared with a value
eu> select * from "to_us"."customers" where country <> 'DE'

# Don't: nor is a pattern, a function of the key, a negation
plan expect=append
select * from customers where country like 'DE'
----
READ rows
Domicile: append
  Regions: us, eu, ap
  Because: no key of customers is compared with a value
  Tables: "public"."customers"
  Declined: route: no key of customers is compared with a value
eu> select * from "to_us"."customers" where country like 'DE'

plan expect=append
select * from customers where upper(country) = 'DE'
----
READ rows
Domicile: append
  Regions: us, eu, ap
  Because: no key of customers is compared with a value
  Tables: "public"."customers"
  Declined: route: no key of customers is compared with a value
eu> select * from "to_us"."customers" where upper(country) = 'DE'

plan expect=append
select * from customers where not country = 'DE'
----
READ rows
Domicile: append
  Regions: us, eu, ap
  Because: no key of customers is compared with a value
  Tables: "public"."customers"
  Declined: route: no key of customers is compared with a value
eu> select * from "to_us"."customers" where not country = 'DE'

plan expect=route $1=JP
select * from customers where country = $1
----
READ rows
Domicile: route
  Regions: ap
  Key: country = $1
  Tables: "public"."customers"
eu> select * from "to_us"."customers" where country = $1

plan expect=route $1=NULL
select * from customers where country = $1
----
READ rows
Domicile: route
  Regions: us
  Key: country = $1
  Tables: "public"."customers"
eu> select * from "to_us"."customers" where country = $1

plan expect=route $1=XX
select * from customers where country = $1
----
READ rows
Domicile: route
  Regions: us
  Key: country = $1
  Tables: "public"."customers"
eu> select * from "to_us"."customers" where country = $1

plan expect=route
select * from customers where 'US'::text = country and tier > 3
----
READ rows
Domicile: route
  Regions: us
  Key: country = 'US'
  Tables: "public"."customers"
eu> select * from "to_us"."customers" where 'US'::text = country and tier > 3

# Don't: a cast that may change the value
plan expect=append
select * from customers where country = 'DEU'::varchar(2)
----
READ rows
Domicile: append
  Regions: us, eu, ap
  Because: no key of customers is compared with a value
  Tables: "public"."customers"
  Declined: route: no key of customers is compared with a value
eu> select * from "to_us"."customers" where country = 'DEU'::varchar(2)

plan expect=append
select * from customers where country = 'de'::citext
----
READ rows
Domicile: append
  Regions: us, eu, ap
  Because: no key of customers is compared with a value
  Tables: "public"."customers"
  Declined: route: no key of customers is compared with a value
eu> select * from "to_us"."customers" where country = 'de'::citext

plan expect=route
select * from customers where country in ('DE', 'FR')
----
READ rows
Domicile: route
  Regions: eu
  Key: country IN ('DE', 'FR')
  Tables: "public"."customers"
  Declined: route: the keys may name several regions
eu> select * from "to_us"."customers" where country in ('DE', 'FR')

plan expect=append
select * from customers where country in ('DE', 'US', 'CA', 'IN', 'JP')
----
READ rows
Domicile: append
  Regions: us, eu, ap
  Key: country IN ('DE', 'US', 'CA', 'IN', … 5 values)
  Tables: "public"."customers"
  Declined: route: the keys may name several regions
eu> select * from "to_us"."customers" where country in ('DE', 'US', 'CA', 'IN', 'JP')

plan expect=route
select * from customers where country = any ('{DE,"FR"}')
----
READ rows
Domicile: route
  Regions: eu
  Key: country IN ('DE', 'FR')
  Tables: "public"."customers"
  Declined: route: the keys may name several regions
eu> select * from "to_us"."customers" where country = any ('{DE,"FR"}')

plan expect=append $1={US,JP}
select * from customers where country = any ($1::text[])
----
READ rows
Domicile: append
  Regions: us, ap
  Key: country = ANY ($1)
  Tables: "public"."customers"
  Declined: route: the keys may name several regions
eu> select * from "to_us"."customers" where country = any ($1::text[])

plan expect=route
select * from customers where country = any (array['DE', 'FR'])
----
READ rows
Domicile: route
  Regions: eu
  Key: country IN ('DE', 'FR')
  Tables: "public"."customers"
  Declined: route: the keys may name several regions
eu> select * from "to_us"."customers" where country = any (array['DE', 'FR'])

plan expect=route
select * from customers where (country = 'DE' and tier = 1) or (tier = 2 and country = 'FR')
----
READ rows
Domicile: route
  Regions: eu
  Key: country IN ('DE', 'FR')
  Tables: "public"."customers"
  Declined: route: the keys may name several regions
eu> select * from "to_us"."customers" where (country = 'DE' and tier = 1) or (tier = 2 and country = 'FR')

# Don't: one branch of an OR has no key
plan expect=append
select * from customers where country = 'DE' or tier = 2
----
READ rows
Domicile: append
  Regions: us, eu, ap
  Because: no key of customers is compared with a value
  Tables: "public"."customers"
  Declined: route: no key of customers is compared with a value
eu> select * from "to_us"."customers" where country = 'DE' or tier = 2

plan expect=route
select * from customers c join orders o on o.customer_id = c.id where c.country = 'DE'
----
READ rows
Domicile: route
  Regions: eu
  Key: country = 'DE'
  Tables: "public"."customers", "public"."orders"
eu> select * from "to_us"."customers" c join "to_us"."orders" o on o.customer_id = c.id where c.country = 'DE'

plan expect=route
select * from orders o join customers c on o.customer_id = c.id join order_items i on i.order_id = o.id where c.country = 'DE'
----
READ rows
Domicile: route
  Regions: eu
  Key: country = 'DE'
  Tables: "public"."orders", "public"."customers", "public"."order_items"
eu> select * from "to_us"."orders" o join "to_us"."customers" c on o.customer_id = c.id join "to_us"."order_items" i on i.order_id = o.id where c.country = 'DE'

plan expect=route
select * from orders join customers on customers.id = orders.customer_id where country = 'JP'
----
READ rows
Domicile: route
  Regions: ap
  Key: country = 'JP'
  Tables: "public"."orders", "public"."customers"
eu> select * from "to_us"."orders" join "to_us"."customers" on customers.id = orders.customer_id where country = 'JP'

# the right side of a left join follows the left one
plan expect=route
select * from customers c left join orders o on o.customer_id = c.id where c.country = 'DE'
----
READ rows
Domicile: route
  Regions: eu
  Key: country = 'DE'
  Tables: "public"."customers", "public"."orders"
eu> select * from "to_us"."customers" c left join "to_us"."orders" o on o.customer_id = c.id where c.country = 'DE'

# Don't: a condition in ON does not limit the left side
plan expect=append
select * from customers c left join orders o on o.customer_id = c.id and c.country = 'DE'
----
READ rows
Domicile: append
  Regions: us, eu, ap
  Because: no key of customers, orders is compared with a value
  Tables: "public"."customers", "public"."orders"
  Declined: route: no key of customers, orders is compared with a value
eu> select * from "to_us"."customers" c left join "to_us"."orders" o on o.customer_id = c.id and c.country = 'DE'

plan expect=refused
select * from customers c full join orders o on o.customer_id = c.id
----
READ rows
Domicile: refused (0A000: can't be answered over several regions: an outer join would make up rows for customers in each region)
  Hint: Compare the residency key with a value, so that one region can answer.
  Because: no key tells the region
  Tables: "public"."customers", "public"."orders"
eu> select * from "to_us"."customers" c full join "to_us"."orders" o on o.customer_id = c.id

plan expect=route
select * from customers c, orders o where o.customer_id = c.id and c.country = 'US'
----
READ rows
Domicile: route
  Regions: us
  Key: country = 'US'
  Tables: "public"."customers", "public"."orders"
eu> select * from "to_us"."customers" c, "to_us"."orders" o where o.customer_id = c.id and c.country = 'US'

plan expect=route
select * from (select * from customers) x where x.country = 'DE'
----
READ rows
Domicile: route
  Regions: eu
  Key: country = 'DE'
  Tables: "public"."customers"
eu> select * from (select * from "to_us"."customers") x where x.country = 'DE'

plan expect=route
select * from (select id, country as land from customers) x where x.land = 'DE'
----
READ rows
Domicile: route
  Regions: eu
  Key: country = 'DE'
  Tables: "public"."customers"
eu> select * from (select id, country as land from "to_us"."customers") x where x.land = 'DE'

# Don't: not through a LIMIT
plan expect=refused
select * from (select * from customers limit 3) x where x.country = 'DE'
----
READ rows
Domicile: refused (0A000: can't be answered over several regions: customers is read in a subquery of FROM that looks at rows of all regions)
  Hint: Compare the residency key with a value, so that one region can answer.
  Because: no key tells the region
  Tables: "public"."customers"
eu> select * from (select * from "to_us"."customers" limit 3) x where x.country = 'DE'

plan expect=route
with de as (select * from customers where country = 'DE') select count(*) from de
----
READ rows
Domicile: route
  Regions: eu
  Key: country = 'DE'
  Tables: "public"."customers"
eu> with de as (select * from "to_us"."customers" where country = 'DE') select count(*) from de

plan expect=route
select c.id, (select count(*) from orders o where o.customer_id = c.id) from customers c where c.country = 'DE'
----
READ rows
Domicile: route
  Regions: eu
  Key: country = 'DE'
  Tables: "public"."customers", "public"."orders"
eu> select c.id, (select count(*) from "to_us"."orders" o where o.customer_id = c.id) from "to_us"."customers" c where c.country = 'DE'

plan expect=route
select * from customers c where country = 'DE' and id in (select customer_id from orders where total > 5)
----
READ rows
Domicile: route
  Regions: eu
  Key: country = 'DE'
  Tables: "public"."customers", "public"."orders"
eu> select * from "to_us"."customers" c where country = 'DE' and id in (select customer_id from "to_us"."orders" where total > 5)

plan expect=refused
select * from customers c where country = 'DE' and id not in (select customer_id from orders)
----
READ rows
Domicile: refused (0A000: can't be answered over several regions: orders is read in a subquery that is not tied to the rows around it)
  Hint: Compare the residency key with a value, so that one region can answer.
  Because: no key tells the region
  Tables: "public"."customers", "public"."orders"
eu> select * from "to_us"."customers" c where country = 'DE' and id not in (select customer_id from "to_us"."orders")

plan expect=route
select * from customers where country = 'DE' union select * from customers where country = 'FR'
----
READ rows
Domicile: route
  Regions: eu
  Key: country = 'DE'
  Key: country = 'FR'
  Tables: "public"."customers"
eu> select * from "to_us"."customers" where country = 'DE' union select * from "to_us"."customers" where country = 'FR'

plan expect=refused
select * from customers where country = 'DE' union select * from customers where country = 'US'
----
READ rows
Domicile: refused (0A000: the statement needs rows of several regions that are not shown to live together)
  Detail: country = 'DE': eu; country = 'US': us
  Hint: Join the tables on the key that pins one with the other, or ask for one region at a time.
  Key: country = 'DE'
  Key: country = 'US'
  Tables: "public"."customers"
eu> select * from "to_us"."customers" where country = 'DE' union select * from "to_us"."customers" where country = 'US'

plan expect=refused
select * from customers a, customers b where a.country = 'DE' and b.country = 'US'
----
READ rows
Domicile: refused (0A000: the statement needs rows of several regions that are not shown to live together)
  Detail: country = 'DE': eu; country = 'US': us
  Hint: Join the tables on the key that pins one with the other, or ask for one region at a time.
  Key: country = 'DE'
  Key: country = 'US'
  Tables: "public"."customers"
eu> select * from "to_us"."customers" a, "to_us"."customers" b where a.country = 'DE' and b.country = 'US'

plan expect=refused $1=DE $2=US
select * from customers a, customers b where a.country = $1 and b.country = $2
----
READ rows
Domicile: refused (0A000: the statement needs rows of several regions that are not shown to live together)
  Detail: country = $1: eu; country = $2: us
  Hint: Join the tables on the key that pins one with the other, or ask for one region at a time.
  Key: country = $1
  Key: country = $2
  Tables: "public"."customers"
eu> select * from "to_us"."customers" a, "to_us"."customers" b where a.country = $1 and b.country = $2

plan expect=route $1=DE $2=FR
select * from customers a, customers b where a.country = $1 and b.country = $2
----
READ rows
Domicile: route
  Regions: eu
  Key: country = $1
  Key: country = $2
  Tables: "public"."customers"
eu> select * from "to_us"."customers" a, "to_us"."customers" b where a.country = $1 and b.country = $2

# the name of a CTE shadows the table's
plan expect=home
with customers as (select 1 as id) select * from customers
----
READ rows
Domicile: home
  Regions: us
  Because: no managed table

# Don't: not inside of itself, where it is the table
plan expect=append
with customers as (select 1 as id) select * from public.customers
----
READ rows
Domicile: append
  Regions: us, eu, ap
  Because: no key of customers is compared with a value
  Tables: "public"."customers"
  Declined: route: no key of customers is compared with a value
eu> with customers as (select 1 as id) select * from "to_us"."customers"

plan expect=route
select public.customers.id, public.customers.* from public.customers where public.customers.country = 'JP'
----
READ rows
Domicile: route
  Regions: ap
  Key: country = 'JP'
  Tables: "public"."customers"
eu> select "to_us"."customers".id, "to_us"."customers".* from "to_us"."customers" where "to_us"."customers".country = 'JP'

plan expect=route
select shop.public.customers.id from shop.public.customers where country = 'JP'
----
READ rows
Domicile: route
  Regions: ap
  Key: country = 'JP'
  Tables: "public"."customers"
eu> select "to_us"."customers".id from "to_us"."customers" where country = 'JP'

plan expect=route
select * from only customers where country = 'DE'
----
READ rows
Domicile: route
  Regions: eu
  Key: country = 'DE'
  Tables: "public"."customers"
eu> select * from only "to_us"."customers" where country = 'DE'

plan expect=route path=sales,public
select * from orders where region = 'E1'
----
READ rows
Domicile: route
  Regions: eu
  Key: region = 'E1'
  Tables: "sales"."orders"
eu> select * from "to_us$sales"."orders" where region = 'E1'

plan expect=route
select sales.orders.id from sales.orders, public.orders o join customers c on c.id = o.customer_id where sales.orders.region = 'E1 ' and c.country = 'DE'
----
READ rows
Domicile: route
  Regions: eu
  Key: region = 'E1 '
  Key: country = 'DE'
  Tables: "sales"."orders", "public"."orders", "public"."customers"
eu> select "to_us$sales"."orders".id from "to_us$sales"."orders", "to_us"."orders" o join "to_us"."customers" c on c.id = o.customer_id where "to_us$sales"."orders".region = 'E1 ' and c.country = 'DE'

plan expect=route
select "größe", "select" from "Odd ""Name""" where "Land" = 'DE' and "größe" > 1
----
READ rows
Domicile: route
  Regions: eu
  Key: Land = 'DE'
  Tables: "public"."Odd ""Name"""
eu> select "größe", "select" from "to_us"."Odd ""Name""" where "Land" = 'DE' and "größe" > 1

plan expect=route
select ид from заказы where регион = 'eu' -- комментарий
----
READ rows
Domicile: route
  Regions: eu
  Key: регион = 'eu'
  Tables: "public"."заказы"
eu> select ид from "to_us"."заказы" where регион = 'eu' -- комментарий

plan expect=route
select * from customers as c (i, n, e, l) where c.l = 'DE'
----
READ rows
Domicile: route
  Regions: eu
  Key: country = 'DE'
  Tables: "public"."customers"
eu> select * from "to_us"."customers" as c (i, n, e, l) where c.l = 'DE'

# the column's new name is another's old one
plan expect=look-up
select * from customers as c (country, n, e, l) where c.country = 5
----
READ rows
Domicile: look-up
  Regions: us, eu, ap
  Key: id = 5, unique over all regions: here first, then the others at once
  Tables: "public"."customers"
eu> select * from "to_us"."customers" as c (country, n, e, l) where c.country = 5

plan expect=route
select * from events where region = 'ap' for update
----
READ rows
Domicile: route
  Regions: ap
  Key: region = 'ap'
  Tables: "public"."events"
eu> select * from "to_us"."events" where region = 'ap' for update

plan expect=refused
select * from events for update
----
READ rows
Domicile: refused (0A000: can't be answered over several regions: FOR UPDATE and its like lock rows in one region only)
  Hint: Compare the residency key with a value, so that one region can answer.
  Because: no key of events is compared with a value
  Tables: "public"."events"
  Declined: route: no key of events is compared with a value
  Declined: append: FOR UPDATE and its like lock rows in one region only
  Declined: merge: FOR UPDATE and its like lock rows in one region only
  Declined: combine: FOR UPDATE and its like lock rows in one region only
eu> select * from "to_us"."events" for update

plan expect=route
select * from tickets where id = 1026
----
READ rows
Domicile: route
  Regions: eu
  Key: id = 1026
  Tables: "public"."tickets"
eu> select * from "to_us"."tickets" where id = 1026

plan expect=route
select * from tickets where id = '1027'::bigint
----
READ rows
Domicile: route
  Regions: ap
  Key: id = '1027'
  Tables: "public"."tickets"
eu> select * from "to_us"."tickets" where id = '1027'::bigint

# Don't: half a ticket is none
plan expect=append
select * from tickets where id = 1026.5
----
READ rows
Domicile: append
  Regions: us, eu, ap
  Because: no key of tickets is compared with a value
  Tables: "public"."tickets"
  Declined: route: no key of tickets is compared with a value
eu> select * from "to_us"."tickets" where id = 1026.5

plan expect=route
select * from tickets t join ticket_notes n on n.ticket_id = t.id where n.ticket_id = 1026
----
READ rows
Domicile: route
  Regions: eu
  Key: id = 1026
  Key: ticket_id = 1026
  Tables: "public"."tickets", "public"."ticket_notes"
eu> select * from "to_us"."tickets" t join "to_us"."ticket_notes" n on n.ticket_id = t.id where n.ticket_id = 1026

plan expect=route
select * from ticket_notes where ticket_id = 1025
----
READ rows
Domicile: route
  Regions: us
  Key: ticket_id = 1025
  Tables: "public"."ticket_notes"
eu> select * from "to_us"."ticket_notes" where ticket_id = 1025

plan expect=route
select * from tax_rates where country = 'DE'
----
READ rows
Domicile: route
  Regions: eu
  Because: tax_rates kept in eu
  Tables: "public"."tax_rates"
eu> select * from "to_us"."tax_rates" where country = 'DE'

plan expect=route
select * from customers c join tax_rates t on t.country = c.country where c.country = 'DE'
----
READ rows
Domicile: route
  Regions: eu
  Key: country = 'DE'
  Key: tax_rates is kept in eu
  Tables: "public"."customers", "public"."tax_rates"
eu> select * from "to_us"."customers" c join "to_us"."tax_rates" t on t.country = c.country where c.country = 'DE'

plan expect=refused
select * from customers c join tax_rates t on t.country = c.country where c.country = 'US'
----
READ rows
Domicile: refused (0A000: the statement needs rows of several regions that are not shown to live together)
  Detail: country = 'US': us; tax_rates is kept in eu: eu
  Hint: Join the tables on the key that pins one with the other, or ask for one region at a time.
  Key: country = 'US'
  Key: tax_rates is kept in eu
  Tables: "public"."customers", "public"."tax_rates"
eu> select * from "to_us"."customers" c join "to_us"."tax_rates" t on t.country = c.country where c.country = 'US'

plan expect=refused
select * from tax_rates, staff
----
READ rows
Domicile: refused (0A000: the statement needs rows of several regions that are not shown to live together)
  Detail: tax_rates is kept in eu: eu; staff is kept in us: us
  Hint: Join the tables on the key that pins one with the other, or ask for one region at a time.
  Key: tax_rates is kept in eu
  Key: staff is kept in us
  Tables: "public"."tax_rates", "public"."staff"
eu> select * from "to_us"."tax_rates", "to_us"."staff"

plan expect=route
select * from customers c join countries on code = country where country = 'DE'
----
READ rows
Domicile: route
  Regions: eu
  Key: country = 'DE'
  Tables: "public"."customers", "public"."countries"
eu> select * from "to_us"."customers" c join "to_us"."countries" on code = country where country = 'DE'

plan expect=route
update customers set tier = 2 where country = 'DE' returning id
----
WRITE rows
Domicile: route
  Regions: eu
  Key: country = 'DE'
  Tables: "public"."customers"
eu> update "to_us"."customers" set tier = 2 where country = 'DE' returning id

plan expect=route
update orders o set status = 'sent' from customers c where c.id = o.customer_id and c.country = 'DE'
----
WRITE
Domicile: route
  Regions: eu
  Key: country = 'DE'
  Tables: "public"."orders", "public"."customers"
eu> update "to_us"."orders" o set status = 'sent' from "to_us"."customers" c where c.id = o.customer_id and c.country = 'DE'

plan expect=route
delete from orders using customers c where c.id = customer_id and c.country = 'JP'
----
WRITE
Domicile: route
  Regions: ap
  Key: country = 'JP'
  Tables: "public"."orders", "public"."customers"
eu> delete from "to_us"."orders" using "to_us"."customers" c where c.id = customer_id and c.country = 'JP'

plan expect=refused
update customers set tier = 2
----
WRITE
Domicile: refused (0A000: UPDATE would write rows of "public"."customers" in several regions in one statement)
  Hint: Compare the residency key with a value, so that one region can answer.
  Because: no key of customers is compared with a value
  Tables: "public"."customers"
eu> update "to_us"."customers" set tier = 2

plan expect=refused
delete from customers where country in ('DE', 'US')
----
WRITE
Domicile: refused (0A000: DELETE would write rows of "public"."customers" in several regions in one statement)
  Hint: Compare the residency key with a value, so that one region can answer.
  Key: country IN ('DE', 'US')
  Tables: "public"."customers"
eu> delete from "to_us"."customers" where country in ('DE', 'US')

plan expect=error
update customers set country = 'FR' where id = 5
----
ERROR 0A000: country is the residency key of "public"."customers": changing it would move the row
HINT: Leave the column out of the UPDATE: rows are not moved between regions by UPDATE yet.
POSITION: 22

plan expect=error
update orders set customer_id = 5 where id = 5
----
ERROR 0A000: customer_id is the residency key of "public"."orders": changing it would move the row
HINT: Leave the column out of the UPDATE: rows are not moved between regions by UPDATE yet.
POSITION: 19

plan expect=route
merge into tickets t using (values (1026, 'x')) v (id, title) on t.id = v.id and t.id = 1026 when matched then update set title = v.title
----
WRITE
Domicile: route
  Regions: eu
  Key: id = 1026
  Tables: "public"."tickets"
eu> merge into "to_us"."tickets" t using (values (1026, 'x')) v (id, title) on t.id = v.id and t.id = 1026 when matched then update set title = v.title

plan expect=refused
merge into customers c using products p on p.id = c.id when matched then delete
----
WRITE
Domicile: refused (0A000: MERGE would write rows of "public"."customers" in several regions in one statement)
  Hint: Compare the residency key with a value, so that one region can answer.
  Because: no key of customers is compared with a value
  Tables: "public"."customers", "public"."products"
eu> merge into "to_us"."customers" c using "to_us"."products" p on p.id = c.id when matched then delete

plan expect=route
with gone as (delete from orders o using customers c where c.id = o.customer_id and c.country = 'DE' returning o.id) select count(*) from gone
----
WRITE rows
Domicile: route
  Regions: eu
  Key: country = 'DE'
  Tables: "public"."orders", "public"."customers"
eu> with gone as (delete from "to_us"."orders" o using "to_us"."customers" c where c.id = o.customer_id and c.country = 'DE' returning o.id) select count(*) from gone

plan expect=refused
with gone as (delete from customers returning id) select count(*) from gone
----
WRITE rows
Domicile: refused (0A000: can't be answered over several regions: customers is read in a WITH that looks at rows of all regions, or is itself read more than once)
  Hint: Compare the residency key with a value, so that one region can answer.
  Because: no key tells the region
  Tables: "public"."customers"
eu> with gone as (delete from "to_us"."customers" returning id) select count(*) from gone

plan expect=route
select now(), lower(name) from customers where country = 'DE'
----
READ rows
Domicile: route
  Regions: eu
  Key: country = 'DE'
  Tables: "public"."customers"
eu> select now(), lower(name) from "to_us"."customers" where country = 'DE'

# Don't: these may answer differently there
plan expect=refused
select current_user, name from customers where country = 'DE'
----
READ rows
Domicile: refused (0A000: current_user may mean something else in another region, and the statement needs rows of one)
  Hint: Call it by itself and give its result as a value, or ask for rows of this region only.
  Key: country = 'DE'
  Tables: "public"."customers"
  Only here: current_user may mean something else in another region, and the statement needs rows of one
eu> select current_user, name from "to_us"."customers" where country = 'DE'

plan expect=refused
select my_function(name) from customers where country = 'DE'
----
READ rows
Domicile: refused (0A000: my_function may mean something else in another region, and the statement needs rows of one)
  Hint: Call it by itself and give its result as a value, or ask for rows of this region only.
  Key: country = 'DE'
  Tables: "public"."customers"
  Only here: my_function may mean something else in another region, and the statement needs rows of one
eu> select my_function(name) from "to_us"."customers" where country = 'DE'

plan expect=route
select my_function(name) from customers where country = 'US'
----
READ rows
Domicile: route
  Regions: us
  Key: country = 'US'
  Tables: "public"."customers"
  Only here: my_function may mean something else in another region, and the statement needs rows of one
eu> select my_function(name) from "to_us"."customers" where country = 'US'

plan expect=refused
select 'customers'::regclass, name from customers where country = 'DE'
----
READ rows
Domicile: refused (0A000: regclass may mean something else in another region, and the statement needs rows of one)
  Hint: Call it by itself and give its result as a value, or ask for rows of this region only.
  Key: country = 'DE'
  Tables: "public"."customers"
  Only here: regclass may mean something else in another region, and the statement needs rows of one
eu> select 'customers'::regclass, name from "to_us"."customers" where country = 'DE'

plan expect=refused
select ctid from customers where country = 'DE'
----
READ rows
Domicile: refused (0A000: the system column ctid is not to be seen from another region)
  Hint: Name the row by its primary key.
  Key: country = 'DE'
  Tables: "public"."customers"
  Only here: the system column ctid is not to be seen from another region
eu> select ctid from "to_us"."customers" where country = 'DE'

plan expect=refused
select * from customers, visits where country = 'DE'
----
READ rows
Domicile: refused (0A000: visits is a table of this region alone, and the statement needs rows of another region)
  Hint: Make it global or pin it (ALTER TABLE … SET LOCALITY …), or ask for rows of this region only.
  Key: country = 'DE'
  Tables: "public"."customers"
  Only here: visits is a table of this region alone, and the statement needs rows of another region
eu> select * from "to_us"."customers", visits where country = 'DE'

plan expect=route
select * from customers, visits where country = 'US'
----
READ rows
Domicile: route
  Regions: us
  Key: country = 'US'
  Tables: "public"."customers"
  Only here: visits is a table of this region alone, and the statement needs rows of another region
eu> select * from "to_us"."customers", visits where country = 'US'

plan expect=refused
select * into copies from customers where country = 'DE'
----
WRITE
Domicile: refused (0A000: SELECT INTO makes a table of this region alone, from rows of other regions)
  Key: country = 'DE'
  Tables: "public"."customers"
  Only here: SELECT INTO makes a table of this region alone, from rows of other regions
eu> select * into copies from "to_us"."customers" where country = 'DE'

plan expect=route
create table copies as select * from customers where country = 'US'
----
DDL
Domicile: route
  Regions: us
  Key: country = 'US'
  Tables: "public"."customers"
  Only here: CREATE TABLE AS makes a table of this region alone, from rows of other regions
eu> create table copies as select * from "to_us"."customers" where country = 'US'

plan expect=refused
create table copies as select * from customers where country = 'DE'
----
DDL
Domicile: refused (0A000: CREATE TABLE AS makes a table of this region alone, from rows of other regions)
  Hint: Create the table, then INSERT the rows of one region at a time.
  Key: country = 'DE'
  Tables: "public"."customers"
  Only here: CREATE TABLE AS makes a table of this region alone, from rows of other regions
eu> create table copies as select * from "to_us"."customers" where country = 'DE'

plan expect=refused
select * from customers tablesample system (10) where country = 'DE'
----
READ rows
Domicile: refused (0A000: TABLESAMPLE can't sample what another region shows)
  Hint: Compare the residency key with a value, so that one region can answer.
  Key: country = 'DE'
  Tables: "public"."customers"
  Only here: TABLESAMPLE can't sample what another region shows
eu> select * from "to_us"."customers" tablesample system (10) where country = 'DE'

# Don't: a comparison under another operator, or with another type's rules
plan expect=append
select * from customers where country operator(public.=) 'DE'
----
READ rows
Domicile: append
  Regions: us, eu, ap
  Because: no key of customers is compared with a value
  Tables: "public"."customers"
  Declined: route: no key of customers is compared with a value
eu> select * from "to_us"."customers" where country operator(public.=) 'DE'

plan expect=append
select * from customers where country = 'DE ' collate "C"
----
READ rows
Domicile: append
  Regions: us, eu, ap
  Because: no key of customers is compared with a value
  Tables: "public"."customers"
  Declined: route: no key of customers is compared with a value
eu> select * from "to_us"."customers" where country = 'DE ' collate "C"

# Don't: a name that an outer join's merged column has
plan expect=refused
select * from customers a right join customers b using (country) where country = 'DE'
----
READ rows
Domicile: refused (0A000: can't be answered over several regions: an outer join would make up rows for customers in each region)
  Hint: Compare the residency key with a value, so that one region can answer.
  Because: no key tells the region
  Tables: "public"."customers"
eu> select * from "to_us"."customers" a right join "to_us"."customers" b using (country) where country = 'DE'

plan expect=route
select * from customers a left join orders o on o.customer_id = a.id join order_items i on i.order_id = o.id where a.country = 'DE'
----
READ rows
Domicile: route
  Regions: eu
  Key: country = 'DE'
  Tables: "public"."customers", "public"."orders", "public"."order_items"
eu> select * from "to_us"."customers" a left join "to_us"."orders" o on o.customer_id = a.id join "to_us"."order_items" i on i.order_id = o.id where a.country = 'DE'

plan expect=append
select a.id from customers a left join (orders o join order_items i on i.order_id = o.id) on o.customer_id = a.id
----
READ rows
Domicile: append
  Regions: us, eu, ap
  Because: no key of customers, orders, order_items is compared with a value
  Tables: "public"."customers", "public"."orders", "public"."order_items"
  Declined: route: no key of customers, orders, order_items is compared with a value
eu> select a.id from "to_us"."customers" a left join ("to_us"."orders" o join "to_us"."order_items" i on i.order_id = o.id) on o.customer_id = a.id

# Don't: the alias of the join hides the names inside
plan expect=refused
select * from (customers c join orders o on o.customer_id = c.id) as j where j.country = 'DE' or j.status = 'x'
----
READ rows
Domicile: refused (0A000: can't be answered over several regions: customers is not shown to live together with orders)
  Hint: Join the tables on the key that pins one with the other.
  Because: no key tells the region
  Tables: "public"."customers", "public"."orders"
eu> select * from ("to_us"."customers" c join "to_us"."orders" o on o.customer_id = c.id) as j where j.country = 'DE' or j.status = 'x'

plan expect=refused
select * from (customers c join orders o on o.customer_id = c.id) as j where j.country = 'DE'
----
READ rows
Domicile: refused (0A000: can't be answered over several regions: orders is not shown to live together with customers)
  Hint: Join the tables on the key that pins one with the other.
  Because: no key tells the region
  Tables: "public"."customers", "public"."orders"
eu> select * from ("to_us"."customers" c join "to_us"."orders" o on o.customer_id = c.id) as j where j.country = 'DE'

plan expect=route
select u.id from (select c.id, c.country from customers c where tier = 1) u join orders o on o.customer_id = u.id where u.country = 'FR'
----
READ rows
Domicile: route
  Regions: eu
  Key: country = 'FR'
  Tables: "public"."customers", "public"."orders"
eu> select u.id from (select c.id, c.country from "to_us"."customers" c where tier = 1) u join "to_us"."orders" o on o.customer_id = u.id where u.country = 'FR'

plan expect=route
select * from customers c where c.country = 'DE' and exists (select from orders o, order_items i where o.customer_id = c.id and i.order_id = o.id)
----
READ rows
Domicile: route
  Regions: eu
  Key: country = 'DE'
  Tables: "public"."customers", "public"."orders", "public"."order_items"
eu> select * from "to_us"."customers" c where c.country = 'DE' and exists (select from "to_us"."orders" o, "to_us"."order_items" i where o.customer_id = c.id and i.order_id = o.id)

plan expect=refused
select * from customers c where c.country = 'DE' and exists (select from orders o where o.id = c.id)
----
READ rows
Domicile: refused (0A000: can't be answered over several regions: orders is read in a subquery that is not tied to the rows around it)
  Hint: Compare the residency key with a value, so that one region can answer.
  Because: no key tells the region
  Tables: "public"."customers", "public"."orders"
eu> select * from "to_us"."customers" c where c.country = 'DE' and exists (select from "to_us"."orders" o where o.id = c.id)

plan expect=route
select (select count(*) from customers where country = 'DE'), (select count(*) from customers where country = 'FR')
----
READ rows
Domicile: route
  Regions: eu
  Key: country = 'DE'
  Key: country = 'FR'
  Tables: "public"."customers"
eu> select (select count(*) from "to_us"."customers" where country = 'DE'), (select count(*) from "to_us"."customers" where country = 'FR')

plan expect=refused
select (select count(*) from customers where country = 'DE'), (select count(*) from customers where country = 'US')
----
READ rows
Domicile: refused (0A000: the statement needs rows of several regions that are not shown to live together)
  Detail: country = 'DE': eu; country = 'US': us
  Hint: Join the tables on the key that pins one with the other, or ask for one region at a time.
  Key: country = 'DE'
  Key: country = 'US'
  Tables: "public"."customers"
eu> select (select count(*) from "to_us"."customers" where country = 'DE'), (select count(*) from "to_us"."customers" where country = 'US')

plan expect=route
select * from events where region = 'eu' and kind in (select kind from events where region = 'eu')
----
READ rows
Domicile: route
  Regions: eu
  Key: region = 'eu'
  Tables: "public"."events"
eu> select * from "to_us"."events" where region = 'eu' and kind in (select kind from "to_us"."events" where region = 'eu')

plan expect=route
select * from customers where country = 'DE' and country in ('US', 'DE')
----
READ rows
Domicile: route
  Regions: eu
  Key: country = 'DE'
  Key: country IN ('US', 'DE')
  Tables: "public"."customers"
eu> select * from "to_us"."customers" where country = 'DE' and country in ('US', 'DE')

plan expect=route
select * from customers where country = 'DE' and country = 'US'
----
READ rows
Domicile: route
  Regions: us
  Key: country = 'DE'
  Key: country = 'US'
  Tables: "public"."customers"
eu> select * from "to_us"."customers" where country = 'DE' and country = 'US'

# Don't: the name in ON is the hidden one, not that of the query around it
plan expect=refused
select * from customers c where c.country = 'DE' and exists (select from (products c join orders o on o.customer_id = c.id) as j)
----
READ rows
Domicile: refused (0A000: can't be answered over several regions: orders is read in a subquery that is not tied to the rows around it)
  Hint: Compare the residency key with a value, so that one region can answer.
  Because: no key tells the region
  Tables: "public"."customers", "public"."products", "public"."orders"
eu> select * from "to_us"."customers" c where c.country = 'DE' and exists (select from ("to_us"."products" c join "to_us"."orders" o on o.customer_id = c.id) as j)

plan expect=refused
select * from customers a where a.country = 'DE' and exists (select from orders o right join order_items i using (id) where customer_id = id)
----
READ rows
Domicile: refused (0A000: can't be answered over several regions: orders is read in a subquery that is not tied to the rows around it)
  Hint: Compare the residency key with a value, so that one region can answer.
  Because: no key tells the region
  Tables: "public"."customers", "public"."orders", "public"."order_items"
eu> select * from "to_us"."customers" a where a.country = 'DE' and exists (select from "to_us"."orders" o right join "to_us"."order_items" i using (id) where customer_id = id)

plan expect=route
select * from customers a where a.country = 'DE' and exists (select from orders where customer_id = a.id)
----
READ rows
Domicile: route
  Regions: eu
  Key: country = 'DE'
  Tables: "public"."customers", "public"."orders"
eu> select * from "to_us"."customers" a where a.country = 'DE' and exists (select from "to_us"."orders" where customer_id = a.id)

# Don't: the column is one of the subquery's own
plan expect=refused
select * from customers a where a.country = 'DE' and exists (select from customers where country = country)
----
READ rows
Domicile: refused (0A000: can't be answered over several regions: customers is read in a subquery that is not tied to the rows around it)
  Hint: Compare the residency key with a value, so that one region can answer.
  Because: no key tells the region
  Tables: "public"."customers"
eu> select * from "to_us"."customers" a where a.country = 'DE' and exists (select from "to_us"."customers" where country = country)

plan expect=route
with c as (select * from customers) select count(*) from c where country = 'DE'
----
READ rows
Domicile: route
  Regions: eu
  Key: country = 'DE'
  Tables: "public"."customers"
eu> with c as (select * from "to_us"."customers") select count(*) from c where country = 'DE'
