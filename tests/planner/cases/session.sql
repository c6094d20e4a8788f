plan expect=home
begin isolation level serializable, read only, deferrable
----
BEGIN
Domicile: home
  Regions: us
  Because: kept by the gateway
detail> TransactionModes(isolation='serializable', read_only=True, deferrable=True, snapshot=None, session=False)

plan expect=home
start transaction read write
----
BEGIN
Domicile: home
  Regions: us
  Because: kept by the gateway
detail> TransactionModes(isolation=None, read_only=False, deferrable=None, snapshot=None, session=False)

plan expect=home
commit and chain
----
COMMIT
Domicile: home
  Regions: us
  Because: kept by the gateway
detail> End(chain=True)

plan expect=home
abort
----
ROLLBACK
Domicile: home
  Regions: us
  Because: kept by the gateway
detail> End(chain=False)

plan expect=home
savepoint "A b"
----
SAVEPOINT
Domicile: home
  Regions: us
  Because: kept by the gateway
detail> Savepoint(action='savepoint', name='A b')

plan expect=home
rollback to savepoint a
----
SAVEPOINT
Domicile: home
  Regions: us
  Because: kept by the gateway
detail> Savepoint(action='rollback to', name='a')

plan expect=home
release a
----
SAVEPOINT
Domicile: home
  Regions: us
  Because: kept by the gateway
detail> Savepoint(action='release', name='a')

plan expect=error
prepare transaction 'x'
----
ERROR 0A000: PREPARE is not supported through the gateway
HINT: The gateway itself commits over regions; prepare transactions at a region's own server.

plan expect=home
set search_path = a, 'B c', "D"
----
SET
Domicile: home
  Regions: us
  Because: kept by the gateway
detail> Setting(name='search_path', values=('a', 'B c', 'D'), local=False)

plan expect=home
set local work_mem to '64MB'
----
SET
Domicile: home
  Regions: us
  Because: kept by the gateway
detail> Setting(name='work_mem', values=('64MB',), local=True)

plan expect=home
set x.y to default
----
SET
Domicile: home
  Regions: us
  Because: kept by the gateway
detail> Setting(name='x.y', values=None, local=False)

plan expect=home
set time zone interval '+02:00' hour to minute
----
SET
Domicile: home
  Regions: us
  Because: kept by the gateway
detail> Setting(name='timezone', values=("INTERVAL '+02:00'",), local=False)

plan expect=home
set transaction isolation level repeatable read
----
SET
Domicile: home
  Regions: us
  Because: kept by the gateway
detail> TransactionModes(isolation='repeatable read', read_only=None, deferrable=None, snapshot=None, session=False)

plan expect=home
set session characteristics as transaction read only
----
SET
Domicile: home
  Regions: us
  Because: kept by the gateway
detail> TransactionModes(isolation=None, read_only=True, deferrable=None, snapshot=None, session=True)

plan expect=home
set constraints all deferred
----
SET
Domicile: home
  Regions: us
  Because: kept by the gateway
detail> Constraints(deferred=True, names=())

plan expect=home
set transaction snapshot '0-1'
----
SET
Domicile: home
  Regions: us
  Because: kept by the gateway
detail> TransactionModes(isolation=None, read_only=None, deferrable=None, snapshot='0-1', session=False)

plan expect=home
reset all
----
SET
Domicile: home
  Regions: us
  Because: kept by the gateway
detail> ResetAll()

plan expect=home
reset work_mem
----
SET
Domicile: home
  Regions: us
  Because: kept by the gateway
detail> Setting(name='work_mem', values=None, local=False)

plan expect=home
show domicile.token
----
SHOW rows
Domicile: home
  Regions: us
  Because: kept by the gateway
detail> Show(name='domicile.token')

plan expect=home
show transaction isolation level
----
SHOW rows
Domicile: home
  Regions: us
  Because: kept by the gateway
detail> Show(name='transaction_isolation')

plan expect=home
prepare p (int, numeric(3, 2)) as /* c */ select * from customers where id = $1
----
PREPARE
Domicile: home
  Regions: us
  Because: kept by the gateway
detail> Prepare(name='p', types=('int', 'numeric(3, 2)'), text='select * from customers where id = $1', offset=42)

plan expect=home
execute p (1, 'a,b', now(), null, 1.5)
----
EXECUTE
Domicile: home
  Regions: us
  Because: kept by the gateway
detail> Execute(name='p', arguments=('1', "'a,b'", 'now()', 'null', '1.5'), constants=('1', 'a,b', None, None, '1.5'), known=(True, True, False, True, True))

plan expect=home
deallocate all
----
DEALLOCATE
Domicile: home
  Regions: us
  Because: kept by the gateway
detail> Deallocate(name=None)

plan expect=home
deallocate p
----
DEALLOCATE
Domicile: home
  Regions: us
  Because: kept by the gateway
detail> Deallocate(name='p')

plan expect=home
discard temp
----
DISCARD
Domicile: home
  Regions: us
  Because: kept by the gateway
detail> Discard(target='temp')

plan expect=route
declare c binary cursor with hold for select * from customers where country = 'DE'
----
CURSOR
Domicile: route
  Regions: eu
  Key: country = 'DE'
  Tables: "public"."customers"
eu> declare c binary cursor with hold for select * from "to_us"."customers" where country = 'DE'

plan expect=home
declare c cursor for select 1
----
CURSOR
Domicile: home
  Regions: us
  Because: no managed table
detail> DeclareCursor(name='c', hold=False, binary=False, text='select 1', offset=21)

plan expect=refused
declare c cursor for select * from customers
----
CURSOR
Domicile: refused (0A000: a cursor can't reach over several regions)
  Hint: Compare the residency key with a value, so that one region can answer.
  Because: no key of customers is compared with a value
  Tables: "public"."customers"
  Declined: route: no key of customers is compared with a value
eu> declare c cursor for select * from "to_us"."customers"

plan expect=home
fetch 3 from c
----
CURSOR rows
Domicile: home
  Regions: us
  Because: kept by the gateway
detail> FetchCursor(name='c', move=False)

plan expect=home
move all in c
----
CURSOR
Domicile: home
  Regions: us
  Because: kept by the gateway
detail> FetchCursor(name='c', move=True)

plan expect=home
close all
----
CURSOR
Domicile: home
  Regions: us
  Because: kept by the gateway
detail> CloseCursor(name=None)

plan expect=home
listen "Ch"
----
LISTEN
Domicile: home
  Regions: us
  Because: kept by the gateway
detail> Channel(action='listen', name='Ch', payload=None)

plan expect=home
unlisten *
----
LISTEN
Domicile: home
  Regions: us
  Because: kept by the gateway
detail> Channel(action='unlisten', name=None, payload=None)

plan expect=home
notify ch, 'x'
----
LISTEN
Domicile: home
  Regions: us
  Because: kept by the gateway
detail> Channel(action='notify', name='ch', payload='x')

split
select 1; select 2 -- x
; /* c */ select ';'; ;
----
'select 1'
'select 2 -- x'
"/* c */ select ';'"

split
select 'é' ; create region x with (jurisdiction = 'a;b'); select 2
----
"select 'é'"
"create region x with (jurisdiction = 'a;b')"
'select 2'

split
--
----


plan expect=home
execute p
----
EXECUTE
Domicile: home
  Regions: us
  Because: kept by the gateway
detail> Execute(name='p', arguments=(), constants=(), known=())

plan expect=home
set x = -1.5
----
SET
Domicile: home
  Regions: us
  Because: kept by the gateway
detail> Setting(name='x', values=('-1.5',), local=False)

plan expect=home
set session authorization default
----
SET
Domicile: home
  Regions: us
  Because: kept by the gateway
detail> Setting(name='session_authorization', values=None, local=False)

plan expect=refused
declare c cursor for select * from customers where id = 5
----
CURSOR
Domicile: refused (0A000: a cursor can't reach over several regions)
  Hint: Compare the residency key with a value, so that one region can answer.
  Because: a cursor can't ask one region after another
  Tables: "public"."customers"
eu> declare c cursor for select * from "to_us"."customers" where id = 5
