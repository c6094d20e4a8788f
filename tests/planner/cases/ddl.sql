plan expect=home
create region ap with (jurisdiction = 'PDPA', number = 3)
----
DOMICILE
Domicile: home
  Regions: us
  Because: Domicile's own statement
detail> Call(function='create_region', arguments=(('name', 'ap'), ('jurisdiction', 'PDPA'), ('number', 3)))
call> SELECT domicile."create_region"("name" => 'ap', "jurisdiction" => 'PDPA', "number" => 3)

plan expect=error
create region ap with (jurisdiction = 'PDPA', host = '10.0.0.1')
----
ERROR 42601: there is no option "host" here
HINT: Where a region's servers are is said in each node's domicile.toml.
POSITION: 47

plan expect=error
create region ap
----
ERROR 42601: region "ap" needs a jurisdiction
HINT: CREATE REGION ap WITH (jurisdiction = 'GDPR');
POSITION: 17

plan expect=home
drop region ap
----
DOMICILE
Domicile: home
  Regions: us
  Because: Domicile's own statement
detail> Call(function='drop_region', arguments=(('name', 'ap'),))
call> SELECT domicile."drop_region"("name" => 'ap')

plan expect=home
alter table customers set locality pinned by (country) using country_region with (move = true)
----
DOMICILE
Domicile: home
  Regions: us
  Because: Domicile's own statement
detail> Call(function='set_locality', arguments=(('rel', '"customers"'), ('locality', 'pinned'), ('by', ('country',)), ('mapping', '"country_region"'), ('move', True)))
call> SELECT domicile."set_locality"("rel" => '"customers"', "locality" => 'pinned', "by" => ARRAY['country']::text[], "mapping" => '"country_region"', "move" => true)

plan expect=home
ALTER TABLE "Sales".Orders SET LOCALITY PINNED WITH customers (customer_id)
----
DOMICILE
Domicile: home
  Regions: us
  Because: Domicile's own statement
detail> Call(function='set_locality', arguments=(('rel', '"Sales"."orders"'), ('locality', 'pinned'), ('parent', '"customers"'), ('by', ('customer_id',))))
call> SELECT domicile."set_locality"("rel" => '"Sales"."orders"', "locality" => 'pinned', "parent" => '"customers"', "by" => ARRAY['customer_id']::text[])

plan expect=home
alter table products set locality global
----
DOMICILE
Domicile: home
  Regions: us
  Because: Domicile's own statement
detail> Call(function='set_locality', arguments=(('rel', '"products"'), ('locality', 'global')))
call> SELECT domicile."set_locality"("rel" => '"products"', "locality" => 'global')

plan expect=home
alter table staff set locality regional in us
----
DOMICILE
Domicile: home
  Regions: us
  Because: Domicile's own statement
detail> Call(function='set_locality', arguments=(('rel', '"staff"'), ('locality', 'regional'), ('home', 'us')))
call> SELECT domicile."set_locality"("rel" => '"staff"', "locality" => 'regional', "home" => 'us')

plan expect=error
alter table staff set locality everywhere
----
ERROR 42601: syntax error at or near "everywhere": PINNED, GLOBAL, REGIONAL or LOCAL is expected
POSITION: 32

plan expect=error
alter table staff set locality pinned (country)
----
ERROR 42601: syntax error at or near "(": BY or WITH is expected
POSITION: 39

plan expect=home
CREATE RESIDENCY POLICY abroad ON customers TO REGION ALL -- or a, b
  ROWS  (consent and tier > 1)
  CLEAR (id, country, tier)
  MASK  (email = domicile.pseudonym(email), "Näme" = domicile.partial("Näme", 1))
  WITH  (copy = true, reads = near, max_staleness = '1s');
----
DOMICILE
Domicile: home
  Regions: us
  Because: Domicile's own statement
detail> Call(function='create_policy', arguments=(('name', 'abroad'), ('rel', '"customers"'), ('rows', 'consent and tier > 1'), ('clear', ('id', 'country', 'tier')), ('masks', {'email': 'domicile.pseudonym(email)', 'Näme': 'domicile.partial("Näme", 1)'}), ('options', {'copy': True, 'reads': 'near', 'max_staleness': '1s'})))
call> SELECT domicile."create_policy"("name" => 'abroad', "rel" => '"customers"', "rows" => 'consent and tier > 1', "clear" => ARRAY['id', 'country', 'tier']::text[], "masks" =>  E'{"email": "domicile.pseudonym(email)", "Näme": "domicile.partial(\\"Näme\\", 1)"}'::jsonb, "options" => '{"copy": true, "reads": "near", "max_staleness": "1s"}'::jsonb)

plan expect=home
alter residency policy p on sales.orders to jurisdiction 'GDPR', 'CCPA' for role analyst, "Bob" clear (id) with (insert = (id, amount))
----
DOMICILE
Domicile: home
  Regions: us
  Because: Domicile's own statement
detail> Call(function='alter_policy', arguments=(('name', 'p'), ('rel', '"sales"."orders"'), ('jurisdictions', ('GDPR', 'CCPA')), ('roles', ('analyst', 'Bob')), ('clear', ('id',)), ('options', {'insert': ('id', 'amount')})))
call> SELECT domicile."alter_policy"("name" => 'p', "rel" => '"sales"."orders"', "jurisdictions" => ARRAY['GDPR', 'CCPA']::text[], "roles" => ARRAY['analyst', 'Bob']::text[], "clear" => ARRAY['id']::text[], "options" => '{"insert": ["id", "amount"]}'::jsonb)

plan expect=home
drop residency policy p on customers
----
DOMICILE
Domicile: home
  Regions: us
  Because: Domicile's own statement
detail> Call(function='drop_policy', arguments=(('name', 'p'), ('rel', '"customers"')))
call> SELECT domicile."drop_policy"("name" => 'p', "rel" => '"customers"')

plan expect=error
create residency policy p on customers mask (email = )
----
ERROR 42601: an expression is expected
POSITION: 54

plan expect=error
create residency policy p on customers mask (email = f(1) +)
----
ERROR 42601: syntax error at end of input
POSITION: 60

plan expect=error
create residency policy p on customers clear (id) clear (name)
----
ERROR 42601: CLEAR is given twice
POSITION: 51

plan expect=error
create residency policy p on customers with (color = 'red')
----
ERROR 42601: there is no option "color" here
HINT: The options are copy, reads, max_staleness, insert.
POSITION: 46

plan expect=error
create residency policy p on customers rows (true) from x
----
ERROR 42601: syntax error at or near "from": TO, FOR, ROWS, CLEAR, MASK or WITH is expected
POSITION: 52

plan expect=error
create residency policy p on customers rows (true; drop table x)
----
ERROR 42601: one expression is expected
POSITION: 46
