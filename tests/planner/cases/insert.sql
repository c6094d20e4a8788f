plan expect=route
insert into customers (id, country) values (1, 'DE')
----
WRITE
Domicile: route
  Regions: eu
  Rows: 1, each at its own home
  Tables: "public"."customers"
eu> insert into "to_us"."customers" (id, country) values (1, 'DE')

plan expect=split
insert into customers (id, country) values (1, 'DE'), (2, 'US') returning id
----
WRITE rows
Domicile: split
  Regions: us, eu
  Rows: 2, each at its own home
  Tables: "public"."customers"
eu> insert into "to_us"."customers" (id, country) values (1, 'DE'), (2, 'US') returning id

plan expect=split $1=1 $2=DE $3=US
insert into customers (id, country) values ($1, $2), ($1, $3)
----
WRITE
Domicile: split
  Regions: us, eu
  Rows: 2, each at its own home
  Tables: "public"."customers"
eu> insert into "to_us"."customers" (id, country) values ($1, $2), ($1, $3)

plan expect=refused $1=NULL
insert into customers (id, country) values (1, $1)
----
WRITE
Domicile: refused (23502: null value in column "country" of relation "customers": the row would have no home)
  Detail: country is the residency key of "public"."customers".
  Hint: Give country a value that names the region where the row lives.
  Rows: 1, each at its own home
  Tables: "public"."customers"
eu> insert into "to_us"."customers" (id, country) values (1, $1)

plan expect=refused
insert into customers (id, country) values (1, 'XX')
----
WRITE
Domicile: refused (23514: new row for relation "customers" has no home: no region has country = 'XX')
  Detail: country is the residency key of "public"."customers", mapped to regions by the table public.country_region.
  Hint: Add the value with its region to public.country_region, or correct it.
  Rows: 1, each at its own home
  Tables: "public"."customers"
eu> insert into "to_us"."customers" (id, country) values (1, 'XX')

plan expect=refused
insert into events (region) values ('mars')
----
WRITE
Domicile: refused (23514: new row for relation "events" has no home: no region has region = 'mars')
  Detail: region is the residency key of "public"."events": it holds the region's name.
  Hint: The regions are ap, eu, us.
  Rows: 1, each at its own home
  Tables: "public"."events"
eu> insert into "to_us"."events" (region) values ('mars')

plan expect=refused
insert into tickets values (7, 'x', true)
----
WRITE
Domicile: refused (23514: new row for relation "tickets" has no home: no region has id = '7')
  Detail: id is the residency key of "public"."tickets": an id that carries its region's number.
  Hint: Take ids from domicile.next_id().
  Rows: 1, each at its own home
  Tables: "public"."tickets"
eu> insert into "to_us"."tickets" ("id", "title", "open") values (7, 'x', true)

plan expect=route
insert into customers values (1, 'a', 'b', 'JP')
----
WRITE
Domicile: route
  Regions: ap
  Rows: 1, each at its own home
  Tables: "public"."customers"
eu> insert into "to_us"."customers" ("id", "name", "email", "country") values (1, 'a', 'b', 'JP')

plan expect=error
insert into customers (id) values (1)
----
ERROR 0A000: the row's home is not known: country, which names it, is left to its default
HINT: Give country in the INSERT: it decides in which region a row of "public"."customers" lives.

plan expect=error
insert into customers (id, country) values (1, default)
----
ERROR 0A000: the row's home is not known: country, which names it, is left to its default
HINT: Give country in the INSERT: it decides in which region a row of "public"."customers" lives.

plan expect=error
insert into customers (id, country) values (1, upper('de'))
----
ERROR 0A000: the row's home is not known: country, which names it, is given by an expression
HINT: Give country as a literal or a parameter of type text.

plan expect=route
insert into tickets (title) values ('x')
----
WRITE
Domicile: route
  Regions: us
  Rows: 1, each at its own home
  Tables: "public"."tickets"
eu> insert into "to_us"."tickets" (title) values ('x')

plan expect=route
insert into tickets default values
----
WRITE
Domicile: route
  Regions: us
  Rows: 1, each at its own home
  Tables: "public"."tickets"
eu> insert into "to_us"."tickets" default values

plan expect=split
insert into orders (customer_id, total) values (5, 10), ($1, 11)
----
WRITE
Domicile: split
  Regions: where the parent rows live
  Rows: 2, each at its own home
  Parents: 2 of them looked up by id = 5
  Tables: "public"."orders"
eu> insert into "to_us"."orders" (customer_id, total) values (5, 10), ($1, 11)

plan expect=route
insert into ticket_notes (ticket_id, n) values (1026, 1)
----
WRITE
Domicile: route
  Regions: eu
  Rows: 1, each at its own home
  Tables: "public"."ticket_notes"
eu> insert into "to_us"."ticket_notes" (ticket_id, n) values (1026, 1)

plan expect=route
insert into public.customers as c (id, country) values (1, 'DE') on conflict (id) do update set name = excluded.name where c.tier > 1 returning c.*
----
WRITE rows
Domicile: route
  Regions: eu
  Rows: 1, each at its own home
  Tables: "public"."customers"
eu> insert into "to_us"."customers" as c (id, country) values (1, 'DE') on conflict (id) do update set name = excluded.name where c.tier > 1 returning c.*

plan expect=error
insert into customers (id, country) values (1, 'DE') on conflict (id) do update set country = 'US'
----
ERROR 0A000: country is the residency key of "public"."customers": changing it would move the row
HINT: Leave the column out of the UPDATE: rows are not moved between regions by UPDATE yet.
POSITION: 85

plan expect=route
insert into customers (id, country) select x, 'DE' from generate_series(1, 3) x
----
WRITE
Domicile: route
  Regions: eu
  Key: country = 'DE'
  Tables: "public"."customers"
eu> insert into "to_us"."customers" (id, country) select x, 'DE' from generate_series(1, 3) x

plan expect=error
insert into customers (id, country) select id, country from new_customers
----
ERROR 0A000: the homes of the rows that this INSERT makes are not known: the residency key of "public"."customers" comes from a query
HINT: SELECT the rows, then INSERT them as VALUES; or give the key as a constant in the SELECT.

plan expect=refused
insert into customers (id, country) select x, 'DE' from new_customers x
----
WRITE
Domicile: refused (0A000: new_customers is a table of this region alone, and the statement needs rows of another region)
  Hint: Make it global or pin it (ALTER TABLE … SET LOCALITY …), or ask for rows of this region only.
  Key: country = 'DE'
  Tables: "public"."customers"
  Only here: new_customers is a table of this region alone, and the statement needs rows of another region
eu> insert into "to_us"."customers" (id, country) select x, 'DE' from new_customers x

plan expect=route
insert into orders (customer_id, total) select c.id, 1 from customers c where c.country = 'DE'
----
WRITE
Domicile: route
  Regions: eu
  Key: country = 'DE'
  Tables: "public"."orders", "public"."customers"
eu> insert into "to_us"."orders" (customer_id, total) select c.id, 1 from "to_us"."customers" c where c.country = 'DE'

plan expect=refused
insert into orders (customer_id, total) select c.id, 1 from customers c
----
WRITE
Domicile: refused (0A000: the homes of the rows that this INSERT makes are not known)
  Hint: Compare the residency key with a value, so that one region can answer.
  Because: no key tells the region
  Tables: "public"."orders", "public"."customers"
eu> insert into "to_us"."orders" (customer_id, total) select c.id, 1 from "to_us"."customers" c

plan expect=refused
insert into customers (id, country) values (nextval('s'), 'DE')
----
WRITE
Domicile: refused (0A000: nextval may mean something else in another region, and the statement needs rows of one)
  Hint: Call it by itself and give its result as a value, or ask for rows of this region only.
  Rows: 1, each at its own home
  Tables: "public"."customers"
  Only here: nextval may mean something else in another region, and the statement needs rows of one
eu> insert into "to_us"."customers" (id, country) values (nextval('s'), 'DE')

plan expect=route
insert into staff values (1, 'x')
----
WRITE
Domicile: route
  Regions: us
  Because: staff kept in us
  Tables: "public"."staff"
eu> insert into "to_us"."staff" ("id", "name") values (1, 'x')

plan expect=home
insert into visits select 1
----
WRITE
Domicile: home
  Regions: us
  Because: no managed table

plan expect=refused
insert into visits select id from customers
----
WRITE
Domicile: refused (0A000: visits is a table of this region alone, and the statement needs rows of another region)
  Hint: Make it global or pin it (ALTER TABLE … SET LOCALITY …), or ask for rows of this region only.
  Because: no key tells the region
  Tables: "public"."customers"
  Only here: visits is a table of this region alone, and the statement needs rows of another region
eu> insert into visits select id from "to_us"."customers"

plan expect=route
insert into visits select id from customers where country = 'US'
----
WRITE
Domicile: route
  Regions: us
  Key: country = 'US'
  Tables: "public"."customers"
  Only here: visits is a table of this region alone, and the statement needs rows of another region
eu> insert into visits select id from "to_us"."customers" where country = 'US'

split-insert homes=eu,us,eu
insert into public.customers (id, country, name) values (1, 'DE', $3), (2, $1, 'a)('), ($2, 'FR', $3) on conflict do nothing returning id, $2
----
eu [3, 2] insert into "to_us"."customers" (id, country, name) values (1, 'DE', $1), ($2, 'FR', $1) on conflict do nothing returning id, $2
us [1, 2] insert into public.customers (id, country, name) values (2, $1, 'a)(') on conflict do nothing returning id, $2

split-insert homes=us,ap
insert into "Odd ""Name""" values (1, 'US', /* ( */ 2, 'é'), (2, 'JP', array_length(array[1, 2], 1), $2)
----
us [] insert into "Odd ""Name""" values (1, 'US', /* ( */ 2, 'é')
ap [2] insert into "to_us"."Odd ""Name""" ("Id", "Land", "größe", "select") values (2, 'JP', array_length(array[1, 2], 1), $1)

# Don't: a probe may find a home where a function can't go along
split-insert homes=us,eu
insert into orders (id, customer_id, total) values (nextval('s'), $1, 1), (5, $2, 1)
----
ERROR 0A000: nextval may mean something else in another region, and the statement needs rows of one
HINT: Call it by itself and give its result as a value, or ask for rows of this region only.
POSITION: 53

split-insert homes=us,us
insert into orders (id, customer_id, total) values (nextval('s'), $1, 1), (5, $2, 1)
----
us [] insert into orders (id, customer_id, total) values (nextval('s'), $1, 1), (5, $2, 1)

split-insert homes=eu
insert into customers (id, country) values ($1, $2)
----
eu [] insert into "to_us"."customers" (id, country) values ($1, $2)

plan expect=append
copy customers from stdin
----
COPY_IN
Domicile: append
  Regions: us, eu, ap
  Because: each row goes to its home, which country names
  Tables: "public"."customers"
eu> copy "to_us"."customers" ("id", "name", "email", "country", "tier", "born", "balance", "active", "tags", "nick", "score") from stdin

plan expect=append
copy orders (id, customer_id, total) from stdin with (format csv, header, null 'NULL', delimiter ';')
----
COPY_IN
Domicile: append
  Regions: us, eu, ap
  Because: each row goes to its home, which customer_id names
  Tables: "public"."orders"
eu> copy "to_us"."orders" (id, customer_id, total) from stdin with (format csv, header, null 'NULL', delimiter ';')

plan expect=error
copy customers (id, name) from stdin
----
ERROR 0A000: COPY into customers leaves out country, which names the home of each row
HINT: Copy that column too.

plan expect=home
copy tickets (title) from stdin
----
COPY_IN
Domicile: home
  Regions: us
  Because: id is made here by its default
  Tables: "public"."tickets"

plan expect=error
copy customers from program 'cat x'
----
ERROR 0A000: COPY to or from a file or program passes by the gateway, so it can't touch a managed table
HINT: Use COPY … FROM STDIN and TO STDOUT (psql: \copy).

plan expect=error
copy products from stdin
----
ERROR 0A000: "public"."products" is a global table: a write must reach every region, which the gateway can't do yet
HINT: Run it in each region, at that region's own server.

split-insert homes=eu,us
insert into orders (id, customer_id, total) values ((select 1), 5, (select max(price) from products)), (2, 6, (select min(price) from public.products))
----
eu [] insert into "to_us"."orders" (id, customer_id, total) values ((select 1), 5, (select max(price) from "to_us"."products"))
us [] insert into orders (id, customer_id, total) values (2, 6, (select min(price) from public.products))

split-insert homes=ap,us,ap
insert into customers values (1, 'a', $2, 'JP'), (2, 'b', $1, 'US'), (3, 'c', $1, 'IN')
----
ap [2, 1] insert into "to_us"."customers" ("id", "name", "email", "country") values (1, 'a', $1, 'JP'), (3, 'c', $2, 'IN')
us [1] insert into customers values (2, 'b', $1, 'US')

plan expect=error
insert into customers select * from new_customers
----
ERROR 0A000: the columns of customers that this INSERT fills are not named
HINT: Name them: INSERT INTO … (a, b, …) SELECT …

plan expect=route
insert into tickets (title) select 'x' from generate_series(1, 3)
----
WRITE
Domicile: route
  Regions: us
  Key: id = 1
  Tables: "public"."tickets"
eu> insert into "to_us"."tickets" (title) select 'x' from generate_series(1, 3)

plan expect=refused
insert into customers (id, country) values ((select id from customers where country = 'US' limit 1), 'DE')
----
WRITE
Domicile: refused (0A000: the statement needs rows of several regions that are not shown to live together)
  Detail: country = 'DE': eu; country = 'US': us
  Hint: Join the tables on the key that pins one with the other, or ask for one region at a time.
  Key: country = 'DE'
  Key: country = 'US'
  Tables: "public"."customers"
eu> insert into "to_us"."customers" (id, country) values ((select id from "to_us"."customers" where country = 'US' limit 1), 'DE')

plan expect=route
insert into orders (id, customer_id, total) select 1, id, 2 from customers where country = 'JP' and id = 5
----
WRITE
Domicile: route
  Regions: ap
  Key: country = 'JP'
  Tables: "public"."orders", "public"."customers"
eu> insert into "to_us"."orders" (id, customer_id, total) select 1, id, 2 from "to_us"."customers" where country = 'JP' and id = 5
