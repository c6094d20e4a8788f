-- Mask functions: what a policy's MASK expressions are made of.
--
-- A mask is evaluated by PostgreSQL wherever a row is shown abroad: in the live view, in the snapshot, in the stream.
-- Rules that every function here keeps:
--   * it never raises on any value (the few that can are listed so in domicile.mask_functions, and get wrapped);
--   * what it can't do safely it answers with NULL, so a mistake withholds and never shows;
--   * it depends on its arguments alone, on no setting of the session: a foreign role may set DateStyle;
--   * names of other functions are qualified by the stored parse tree (SQL-standard bodies), so no search_path matters.
--
-- A keyed mask has two forms. `domicile.pseudonym(value)` is what a policy says. `domicile.pseudonym_with(value,
-- inner_pad, outer_pad)` is what stands in the views: domicile.wrap_mask hands it the key through scalar subqueries on
-- domicile.mask_key, which the views' owner reads and the foreign role, whose EXECUTE is checked, does not.

-- Keys ---------------------------------------------------------------------------------------------------------------

create function domicile.hmac_pad(key bytea, fill int) returns bytea
language sql immutable strict parallel safe
return (
    select string_agg(
               set_byte('\x00'::bytea, 0, case when n < octet_length(k.key) then get_byte(k.key, n) else 0 end # fill),
               '\x'::bytea order by n)
    from (select case when octet_length(hmac_pad.key) > 64 then sha256(hmac_pad.key) else hmac_pad.key end) as k(key),
         generate_series(0, 63) as n
);
comment on function domicile.hmac_pad(bytea, int) is
'The 64-byte block of HMAC-SHA-256 (RFC 2104) made of the key and one byte: 54 (0x36) gives the inner pad, 92 (0x5c) the outer one. Computed once for each key, not once for each row.';

create function domicile.hmac_sha256(key bytea, data bytea) returns bytea
language sql immutable strict parallel safe
return sha256(domicile.hmac_pad(key, 92) || sha256(domicile.hmac_pad(key, 54) || data));
comment on function domicile.hmac_sha256(bytea, bytea) is
'HMAC-SHA-256 of data under key, 32 bytes. For tests and single values; masks use the pads of domicile.mask_key, which cost two sha256 calls a row.';

create function domicile.text_bytes(value text) returns bytea
language sql immutable parallel safe
return replace(value, '\', '\\')::bytea;
comment on function domicile.text_bytes(text) is
'The bytes of a text in the database''s encoding. Immutable, which convert_to() is not; the doubled backslash keeps the bytea input from reading escapes.';

create function domicile.new_mask_key() returns bytea
language sql volatile parallel safe
return sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()));
comment on function domicile.new_mask_key() is
'32 bytes from the server''s strong random source (three random UUIDs hold 366 random bits).';

create table domicile.mask_key (
    domain text primary key check (domain <> '' and octet_length(domain) <= 255),
    key bytea not null default domicile.new_mask_key() check (octet_length(key) >= 32),
    inner_pad bytea not null generated always as (domicile.hmac_pad(key, 54)) stored,
    outer_pad bytea not null generated always as (domicile.hmac_pad(key, 92)) stored,
    created_at timestamptz not null default now()
);
comment on table domicile.mask_key is
'One secret key for each domain of keyed masks. Read by the views'' owner alone, never leaves this region. Deleting a key withholds (NULL) everything masked with it; changing it changes every pseudonym of its domain.';
revoke all on domicile.mask_key from public;
grant select on domicile.mask_key to domicile_views;

-- The heart of every keyed mask. Each parameter is used once, so that PostgreSQL inlines it (a parameter that holds a
-- subquery and is used twice would be a function call for each row).
create function domicile.keyed_hash(data bytea, inner_pad bytea, outer_pad bytea) returns bytea
language sql immutable parallel safe
return sha256(outer_pad || sha256(inner_pad || data));
comment on function domicile.keyed_hash(bytea, bytea, bytea) is
'HMAC-SHA-256 of data by the two pads of a key (columns inner_pad and outer_pad of domicile.mask_key).';

-- pseudonym ----------------------------------------------------------------------------------------------------------

create function domicile.pseudonym_with(value text, inner_pad bytea, outer_pad bytea) returns text
language sql immutable parallel safe
return encode(substr(domicile.keyed_hash(domicile.text_bytes(value), inner_pad, outer_pad), 1, 16), 'hex');

create function domicile.pseudonym_with(value bytea, inner_pad bytea, outer_pad bytea) returns bytea
language sql immutable parallel safe
return domicile.keyed_hash(value, inner_pad, outer_pad);

create function domicile.pseudonym_with(value uuid, inner_pad bytea, outer_pad bytea) returns uuid
language sql immutable parallel safe
return overlay(overlay(
    encode(substr(domicile.keyed_hash(uuid_send(value), inner_pad, outer_pad), 1, 16), 'hex')
    placing '8' from 13 for 1) placing '8' from 17 for 1)::uuid;

create function domicile.pseudonym_with(value bigint, inner_pad bytea, outer_pad bytea) returns bigint
language sql immutable parallel safe
return ('x' || encode(substr(domicile.keyed_hash(int8send(value), inner_pad, outer_pad), 1, 8), 'hex'))::bit(64)::bigint
       & 9223372036854775807;

create function domicile.pseudonym_with(value int, inner_pad bytea, outer_pad bytea) returns int
language sql immutable parallel safe
return ('x' || encode(substr(domicile.keyed_hash(int4send(value), inner_pad, outer_pad), 1, 4), 'hex'))::bit(32)::int
       & 2147483647;

-- What a policy says. Called directly they read the key as the caller: a DBA may try them, nobody else can.
create function domicile.pseudonym(value text, domain text default null) returns text
language sql stable parallel safe
return (select domicile.pseudonym_with(pseudonym.value, k.inner_pad, k.outer_pad)
        from domicile.mask_key k where k.domain = pseudonym.domain);

create function domicile.pseudonym(value bytea, domain text default null) returns bytea
language sql stable parallel safe
return (select domicile.pseudonym_with(pseudonym.value, k.inner_pad, k.outer_pad)
        from domicile.mask_key k where k.domain = pseudonym.domain);

create function domicile.pseudonym(value uuid, domain text default null) returns uuid
language sql stable parallel safe
return (select domicile.pseudonym_with(pseudonym.value, k.inner_pad, k.outer_pad)
        from domicile.mask_key k where k.domain = pseudonym.domain);

create function domicile.pseudonym(value bigint, domain text default null) returns bigint
language sql stable parallel safe
return (select domicile.pseudonym_with(pseudonym.value, k.inner_pad, k.outer_pad)
        from domicile.mask_key k where k.domain = pseudonym.domain);

create function domicile.pseudonym(value int, domain text default null) returns int
language sql stable parallel safe
return (select domicile.pseudonym_with(pseudonym.value, k.inner_pad, k.outer_pad)
        from domicile.mask_key k where k.domain = pseudonym.domain);

comment on function domicile.pseudonym(text, text) is
'MASK. The first 128 bits of HMAC-SHA-256 of the value, 32 hexadecimal digits. Class: preserved, so it may stand on UNIQUE and FOREIGN KEY columns. Reveals which values are equal, and how often each occurs; not the value, its length or its order. Key: by default one for each column (a foreign key column uses that of the column it refers to); domain => ''person'' shares a key between columns, which makes them joinable and linkable. NULL stays NULL. A varchar(n) or char(n) column needs n >= 32. Called directly it needs the domain, and the right to read domicile.mask_key.';
comment on function domicile.pseudonym(bytea, text) is
'MASK. HMAC-SHA-256 of the value, 32 bytes. Class: preserved. Otherwise as domicile.pseudonym(text).';
comment on function domicile.pseudonym(uuid, text) is
'MASK. 120 bits of HMAC-SHA-256 of the value as a UUID of version 8. Class: preserved. Otherwise as domicile.pseudonym(text).';
comment on function domicile.pseudonym(bigint, text) is
'MASK. 63 bits of HMAC-SHA-256 of the value, never negative. Class: collision-possible (one chance in two at three billion values), so it is refused on UNIQUE and FOREIGN KEY columns. Otherwise as domicile.pseudonym(text).';
comment on function domicile.pseudonym(int, text) is
'MASK. 31 bits of HMAC-SHA-256 of the value, never negative. Class: collision-possible (one chance in two at 55,000 values), so it is refused on UNIQUE and FOREIGN KEY columns. Otherwise as domicile.pseudonym(text).';
comment on function domicile.pseudonym_with(text, bytea, bytea) is
'What domicile.pseudonym(text) becomes in a view: the pads of the key come as arguments. NULL where value or key is NULL.';
comment on function domicile.pseudonym_with(bytea, bytea, bytea) is
'What domicile.pseudonym(bytea) becomes in a view. NULL where value or key is NULL.';
comment on function domicile.pseudonym_with(uuid, bytea, bytea) is
'What domicile.pseudonym(uuid) becomes in a view. NULL where value or key is NULL.';
comment on function domicile.pseudonym_with(bigint, bytea, bytea) is
'What domicile.pseudonym(bigint) becomes in a view. NULL where value or key is NULL.';
comment on function domicile.pseudonym_with(int, bytea, bytea) is
'What domicile.pseudonym(int) becomes in a view. NULL where value or key is NULL.';

-- partial ------------------------------------------------------------------------------------------------------------

create function domicile.partial(value text, keep_start int, keep_end int default 0, pad text default '***') returns text
language sql immutable parallel safe
return case
    when value is null then null
    when keep_start is null or keep_end is null
      or char_length(value) <= greatest(keep_start, 0)::bigint + greatest(keep_end, 0) then coalesce(pad, '***')
    else left(value, greatest(keep_start, 0)) || coalesce(pad, '***') || right(value, greatest(keep_end, 0))
end;
comment on function domicile.partial(text, int, int, text) is
'MASK. The first keep_start and the last keep_end characters (code points) with pad between them; pad alone where the value is no longer than what would be kept, so a value is never shown whole. Class: lossy. Reveals the kept characters; with the default pad not the length. NULL stays NULL, '''' becomes the pad.';

create function domicile.partial_email(value text) returns text
language sql immutable parallel safe
return case
    when value is null then null
    when value not like '%_@_%' then '***'
    else
        case when strpos(value, '@') > 2 then left(value, 1) else '' end || '***@'
        || case when strpos(split_part(value, '@', -1), '.') > 2 then left(split_part(value, '@', -1), 1) else '' end || '***'
        || case when strpos(split_part(value, '@', -1), '.') > 0 then '.' || split_part(value, '.', -1) else '' end
end;
comment on function domicile.partial_email(text) is
'MASK. d***@g***.com for daniel@gmail.com: the first character of the local part and of the domain (each only where more follow), and the top-level domain. *** where the value is no e-mail address. Class: lossy. NULL stays NULL.';

-- generalize ---------------------------------------------------------------------------------------------------------

create function domicile.generalize(value int, step int) returns int
language sql immutable parallel safe
return case when step > 1
      and value::bigint - mod(mod(value::bigint, step::bigint) + step, step::bigint) >= -2147483648
    then (value::bigint - mod(mod(value::bigint, step::bigint) + step, step::bigint))::int end;

create function domicile.generalize(value bigint, step bigint) returns bigint
language sql immutable parallel safe
return case when step > 1
      and value::numeric - mod(mod(value::numeric, step::numeric) + step, step::numeric) >= -9223372036854775808
    then (value::numeric - mod(mod(value::numeric, step::numeric) + step, step::numeric))::bigint end;

create function domicile.generalize(value smallint, step int) returns smallint
language sql immutable parallel safe
return case when step > 1
      and value::bigint - mod(mod(value::bigint, step::bigint) + step, step::bigint) >= -32768
    then (value::bigint - mod(mod(value::bigint, step::bigint) + step, step::bigint))::smallint end;

create function domicile.generalize(value numeric, step numeric) returns numeric
language sql immutable parallel safe
return case
    when not step > 0 or step in ('Infinity', 'NaN') then null
    when value in ('Infinity', '-Infinity', 'NaN') then value
    else value - mod(mod(value, step) + step, step)
end;

create function domicile.generalize(value double precision, step double precision) returns double precision
language sql immutable parallel safe
return case when step > 0 and step < 'Infinity' then floor(value / step) * step end;

-- An address keeps its own, shorter prefix. The bits after the prefix become zero.
create function domicile.generalize(value inet, prefix int) returns inet
language sql immutable parallel safe
return case when prefix between 0 and case family(value) when 4 then 31 else 127 end
    then network(set_masklen(value, least(prefix, masklen(value))))::inet end;

-- Years before 4000 BC and after 200000 are withheld: PostgreSQL's own arithmetic ends not far behind them.
create function domicile.generalize(value timestamp, unit text) returns timestamp
language sql immutable parallel safe
return case
    when not isfinite(value) then value
    when unit in ('hour', 'day', 'week', 'month', 'quarter', 'year', 'decade', 'century')
     and value >= '4000-01-01 BC'::timestamp and value < '200000-01-01'::timestamp then date_trunc(unit, value)
end;

create function domicile.generalize(value date, unit text) returns date
language sql immutable parallel safe
return case
    when not isfinite(value) then value
    when unit in ('week', 'month', 'quarter', 'year', 'decade', 'century')
     and value >= '4000-01-01 BC'::date and value < '200000-01-01'::date then date_trunc(unit, value::timestamp)::date
end;

create function domicile.generalize(value timestamptz, unit text) returns timestamptz
language sql immutable parallel safe
return case
    when not isfinite(value) then value
    when unit in ('hour', 'day', 'week', 'month', 'quarter', 'year', 'decade', 'century')
     and value >= '4000-01-01 00:00 UTC BC'::timestamptz and value < '200000-01-01 00:00 UTC'::timestamptz
    then timezone('UTC', date_trunc(unit, timezone('UTC', value)))
end;

create function domicile.unit_length(unit text) returns interval
language sql immutable parallel safe
return case unit when 'hour' then '1 hour'::interval when 'day' then '1 day' when 'week' then '7 days'
    when 'month' then '1 month' when 'quarter' then '3 months' when 'year' then '1 year' when 'decade' then '10 years'
    when 'century' then '100 years' end;
comment on function domicile.unit_length(text) is
'The length of a unit of domicile.generalize; NULL for any other word.';

create function domicile.generalize(value int4range, step int) returns int4range
language sql immutable parallel safe
return case when isempty(value) then value when step > 1 then
    int4range(domicile.generalize(lower(value), step),
              case when -domicile.generalize(-upper(value)::bigint, step) <= 2147483647
                   then (-domicile.generalize(-upper(value)::bigint, step))::int end) end;

create function domicile.generalize(value int8range, step bigint) returns int8range
language sql immutable parallel safe
return case when isempty(value) then value when step > 1 then
    int8range(domicile.generalize(lower(value), step),
              case when -domicile.generalize(-upper(value)::numeric, step::numeric) <= 9223372036854775807
                   then (-domicile.generalize(-upper(value)::numeric, step::numeric))::bigint end) end;

create function domicile.generalize(value numrange, step numeric) returns numrange
language sql immutable parallel safe
return case when isempty(value) then value when step > 0 and step not in ('Infinity', 'NaN') then
    numrange(domicile.generalize(lower(value), step),
             case when upper_inc(value) then domicile.generalize(upper(value), step) + step
                  else -domicile.generalize(-upper(value), step) end) end;

create function domicile.generalize(value tsrange, unit text) returns tsrange
language sql immutable parallel safe
return case when isempty(value) then value when domicile.unit_length(unit) is not null then
    tsrange(domicile.generalize(lower(value), unit),
            case when upper(value) = domicile.generalize(upper(value), unit) and not upper_inc(value) then upper(value)
                 else domicile.generalize(upper(value), unit) + domicile.unit_length(unit) end) end;

create function domicile.generalize(value tstzrange, unit text) returns tstzrange
language sql immutable parallel safe
return case when isempty(value) then value when domicile.unit_length(unit) is not null then
    tstzrange(domicile.generalize(lower(value), unit),
              case when upper(value) = domicile.generalize(upper(value), unit) and not upper_inc(value) then upper(value)
                   else timezone('UTC', timezone('UTC', domicile.generalize(upper(value), unit))
                                        + domicile.unit_length(unit)) end) end;

create function domicile.generalize(value daterange, unit text) returns daterange
language sql immutable parallel safe
return case when isempty(value) then value when unit not in ('hour', 'day') and domicile.unit_length(unit) is not null then
    daterange(domicile.generalize(lower(value), unit),
              case when upper(value) = domicile.generalize(upper(value), unit) then upper(value)
                   else (domicile.generalize(upper(value), unit) + domicile.unit_length(unit))::date end) end;

comment on function domicile.generalize(int, int) is
'MASK. The value rounded down to a multiple of step (-7 by 5 is -10), same type. Class: lossy. Reveals the interval that the value lies in. NULL where step is not more than 1 or the result leaves the type; NULL stays NULL.';
comment on function domicile.generalize(bigint, bigint) is 'MASK. As domicile.generalize(int, int).';
comment on function domicile.generalize(smallint, int) is 'MASK. As domicile.generalize(int, int).';
comment on function domicile.generalize(numeric, numeric) is
'MASK. The value rounded down to a multiple of step, exact, same type. Class: lossy. NULL where step is not above 0; NaN and the infinities stay. A step below the column''s own precision hides nothing: choose it well.';
comment on function domicile.generalize(double precision, double precision) is
'MASK. As domicile.generalize(numeric, numeric), as exact as the type is.';
comment on function domicile.generalize(inet, int) is
'MASK. The network of the first prefix bits that the address lies in. Class: lossy. NULL where prefix would keep the whole address.';
comment on function domicile.generalize(date, text) is
'MASK. The first day of the value''s week, month, quarter, year, decade or century, as a date. Class: lossy. NULL for any other unit and for years before 4000 BC or after 200000; the infinities stay.';
comment on function domicile.generalize(timestamp, text) is
'MASK. The start of the value''s hour, day, week, month, quarter, year, decade or century, same type. Class: lossy. Limits as for date.';
comment on function domicile.generalize(timestamptz, text) is
'MASK. As domicile.generalize(timestamp, text), counted at UTC, so that no session''s time zone changes it.';
comment on function domicile.generalize(int4range, int) is
'MASK. The range widened to multiples of step on both sides. Class: lossy. Unbounded sides stay, a bound that leaves the type becomes unbounded, an empty range stays empty. NULL where step is not more than 1.';
comment on function domicile.generalize(int8range, bigint) is 'MASK. As domicile.generalize(int4range, int).';
comment on function domicile.generalize(numrange, numeric) is
'MASK. The range widened to multiples of step on both sides, lower bound inclusive, upper exclusive. Class: lossy.';
comment on function domicile.generalize(daterange, text) is
'MASK. The range widened to whole weeks, months, quarters, years, decades or centuries. Class: lossy.';
comment on function domicile.generalize(tsrange, text) is
'MASK. The range widened to whole hours, days, weeks, months, quarters, years, decades or centuries. Class: lossy.';
comment on function domicile.generalize(tstzrange, text) is 'MASK. As domicile.generalize(tsrange, text), at UTC.';

-- noise --------------------------------------------------------------------------------------------------------------

create function domicile.noise_fraction(row_identity text, inner_pad bytea, outer_pad bytea) returns numeric
language sql immutable parallel safe
return ('x' || left(encode(domicile.keyed_hash(domicile.text_bytes('noise of row ' || row_identity), inner_pad, outer_pad),
                           'hex'), 13))::bit(52)::bigint / 2251799813685248::numeric - 1;
comment on function domicile.noise_fraction(text, bytea, bytea) is
'A number in [-1, 1), uniform over rows, fixed for each key and row.';

create function domicile.noise_with(value numeric, spread numeric, row_identity text, inner_pad bytea, outer_pad bytea)
returns numeric
language sql immutable parallel safe
return round(value + nullif(greatest(spread, 0), 0) * domicile.noise_fraction(row_identity, inner_pad, outer_pad), scale(value));

-- The range of the type is kept by looking at value and spread: looking at the sum would need it twice, see above.
create function domicile.noise_with(value bigint, spread bigint, row_identity text, inner_pad bytea, outer_pad bytea)
returns bigint
language sql immutable parallel safe
return case when spread > 0 and value::numeric + spread <= 9223372036854775807 and value::numeric - spread >= -9223372036854775808
    then (value + round(spread * domicile.noise_fraction(row_identity, inner_pad, outer_pad)))::bigint end;

create function domicile.noise_with(value int, spread int, row_identity text, inner_pad bytea, outer_pad bytea)
returns int
language sql immutable parallel safe
return case when spread > 0 and value::bigint + spread <= 2147483647 and value::bigint - spread >= -2147483648
    then (value + round(spread * domicile.noise_fraction(row_identity, inner_pad, outer_pad)))::int end;

create function domicile.noise_with(
    value double precision, spread double precision, row_identity text, inner_pad bytea, outer_pad bytea)
returns double precision
language sql immutable parallel safe
return value + nullif(greatest(spread, 0), 0) * domicile.noise_fraction(row_identity, inner_pad, outer_pad)::double precision;

create function domicile.noise_with(value date, spread int, row_identity text, inner_pad bytea, outer_pad bytea)
returns date
language sql immutable parallel safe
return value + round(nullif(greatest(spread, 0), 0) * domicile.noise_fraction(row_identity, inner_pad, outer_pad))::int;

create function domicile.noise_with(value timestamp, spread interval, row_identity text, inner_pad bytea, outer_pad bytea)
returns timestamp
language sql immutable parallel safe
return value + nullif(greatest(spread, '0'::interval), '0'::interval)
             * domicile.noise_fraction(row_identity, inner_pad, outer_pad)::double precision;

create function domicile.noise_with(value timestamptz, spread interval, row_identity text, inner_pad bytea, outer_pad bytea)
returns timestamptz
language sql immutable parallel safe
return timezone('UTC', timezone('UTC', value) + nullif(greatest(spread, '0'::interval), '0'::interval)
             * domicile.noise_fraction(row_identity, inner_pad, outer_pad)::double precision);

-- What a policy says. Only a policy knows the row, so called directly these answer NULL.
create function domicile.noise(value numeric, spread numeric) returns numeric
language sql immutable parallel safe return null::numeric;
create function domicile.noise(value bigint, spread bigint) returns bigint
language sql immutable parallel safe return null::bigint;
create function domicile.noise(value int, spread int) returns int
language sql immutable parallel safe return null::int;
create function domicile.noise(value double precision, spread double precision) returns double precision
language sql immutable parallel safe return null::double precision;
create function domicile.noise(value date, spread int) returns date
language sql immutable parallel safe return null::date;
create function domicile.noise(value timestamp, spread interval) returns timestamp
language sql immutable parallel safe return null::timestamp;
create function domicile.noise(value timestamptz, spread interval) returns timestamptz
language sql immutable parallel safe return null::timestamptz;

comment on function domicile.noise(numeric, numeric) is
'MASK. The value moved by up to spread either way, rounded to the value''s own number of decimals. Class: lossy. The movement is a fixed function of the key and the row''s primary key: reading again, or averaging what was read, takes none of it away; sums over many rows stay near. It stays the same when the value of the row changes, so differences between two values of one row over time are shown exactly. Needs a primary key. Only inside a policy''s MASK, where the row is known; called directly it gives NULL. NULL stays NULL; NULL where spread is not above 0.';
comment on function domicile.noise(bigint, bigint) is 'MASK. As domicile.noise(numeric, numeric); NULL where the value is within spread of the type''s end.';
comment on function domicile.noise(int, int) is 'MASK. As domicile.noise(numeric, numeric); NULL where the value is within spread of the type''s end.';
comment on function domicile.noise(double precision, double precision) is 'MASK. As domicile.noise(numeric, numeric), not rounded.';
comment on function domicile.noise(date, int) is 'MASK. The date moved by up to spread days either way. As domicile.noise(numeric, numeric).';
comment on function domicile.noise(timestamp, interval) is 'MASK. The time moved by up to spread either way. As domicile.noise(numeric, numeric).';
comment on function domicile.noise(timestamptz, interval) is 'MASK. The time moved by up to spread either way, counted at UTC. As domicile.noise(numeric, numeric).';
comment on function domicile.noise_with(numeric, numeric, text, bytea, bytea) is 'What domicile.noise(numeric, numeric) becomes in a view.';
comment on function domicile.noise_with(bigint, bigint, text, bytea, bytea) is 'What domicile.noise(bigint, bigint) becomes in a view.';
comment on function domicile.noise_with(int, int, text, bytea, bytea) is 'What domicile.noise(int, int) becomes in a view.';
comment on function domicile.noise_with(double precision, double precision, text, bytea, bytea) is 'What domicile.noise(double precision, double precision) becomes in a view.';
comment on function domicile.noise_with(date, int, text, bytea, bytea) is 'What domicile.noise(date, int) becomes in a view.';
comment on function domicile.noise_with(timestamp, interval, text, bytea, bytea) is 'What domicile.noise(timestamp, interval) becomes in a view.';
comment on function domicile.noise_with(timestamptz, interval, text, bytea, bytea) is 'What domicile.noise(timestamptz, interval) becomes in a view.';

-- fake ---------------------------------------------------------------------------------------------------------------

-- Given and family names stand in groups of one script, eight of each, so that a name is never of two scripts.
create function domicile.fake_pick(hash bytea, kind text) returns text
language plpgsql immutable strict parallel safe
set search_path = pg_catalog
as $$
declare
    given constant text[] := array[
        'Anna', 'Clara', 'Emil', 'Felix', 'Hanna', 'Jonas', 'Lena', 'Paul',
        'Amélie', 'Chloé', 'Étienne', 'Inès', 'José', 'Renée', 'Sofía', 'Zoë',
        'Алексей', 'Анна', 'Дмитрий', 'Елена', 'Иван', 'Мария', 'Ольга', 'Сергей',
        'Αλέξης', 'Ειρήνη', 'Ελένη', 'Κώστας', 'Μαρία', 'Νίκος', 'Σοφία', 'Γιώργος',
        '伟', '芳', '娜', '敏', '静', '丽', '强', '磊',
        'さくら', '陽菜', '翔太', '大輔', '美咲', '健太', '優子', '直樹',
        '민준', '서연', '지우', '하준', '서윤', '도윤', '예은', '지호',
        'أحمد', 'ليلى', 'محمد', 'مريم', 'عمر', 'نور', 'خالد', 'سلمى'];
    family constant text[] := array[
        'Becker', 'Fischer', 'Keller', 'Lang', 'Meyer', 'Schmid', 'Vogel', 'Winter',
        'Dubois', 'García', 'Lefèvre', 'Muñoz', 'Núñez', 'Rivière', 'Sánchez', 'Château',
        'Волков', 'Иваненко', 'Козлов', 'Лебедев', 'Мороз', 'Орлов', 'Соколов', 'Шевченко',
        'Γεωργίου', 'Δημητρίου', 'Ιωάννου', 'Κωνσταντίνου', 'Νικολάου', 'Παπαδάκης', 'Χριστοδούλου', 'Αντωνίου',
        '王', '李', '张', '刘', '陈', '杨', '黄', '赵',
        '佐藤', '鈴木', '高橋', '田中', '伊藤', '渡辺', '山本', '中村',
        '김', '이', '박', '최', '정', '강', '조', '윤',
        'حداد', 'منصور', 'خوري', 'صالح', 'نجار', 'عباس', 'فارس', 'زيدان'];
    city constant text[] := array[
        'Amberfurt', 'Birkenau am See', 'Castelmare', 'Dunhaven', 'Eikstad', 'Fjordby', 'Grünfelden', 'Haute-Rive',
        'Ilhabela Nova', 'Jasenice', 'Kvarnholm', 'Łąkowo', 'Monteverde', 'Nový Brod', 'Ørebæk', 'Puerto Claro',
        'Озёрск-Новый', 'Білопілля', 'Νεάπολις', 'Qaradağ', '青湖市', '南風町', '새벽시', 'واحة النور'];
    script int := get_byte(hash, 0) % 8;
    first int := script * 8 + get_byte(hash, 1) % 8 + 1;
    last int := script * 8 + get_byte(hash, 2) % 8 + 1;
begin
    return case kind
        when 'name' then case
            when script in (4, 6) then family[last] || given[first]
            when script = 5 then family[last] || ' ' || given[first]
            else given[first] || ' ' || family[last] end
        when 'email' then 'user.' || encode(substr(hash, 4, 4), 'hex') || '@example.com'
        when 'city' then city[((get_byte(hash, 8) << 8) + get_byte(hash, 9)) % array_length(city, 1) + 1]
    end;
end
$$;
comment on function domicile.fake_pick(bytea, text) is
'A name, email or city chosen by a hash of at least 10 bytes; NULL for any other kind. 512 names in 8 scripts, 24 invented cities, e-mail addresses of example.com with 32 bits.';

create function domicile.fake_with(value text, kind text, inner_pad bytea, outer_pad bytea) returns text
language sql immutable parallel safe
return domicile.fake_pick(domicile.keyed_hash(domicile.text_bytes('fake ' || value), inner_pad, outer_pad), kind);
comment on function domicile.fake_with(text, text, bytea, bytea) is
'What domicile.fake(text, text) becomes in a view. NULL where value, kind or key is NULL.';

create function domicile.fake(value text, kind text, domain text default null) returns text
language sql stable parallel safe
return (select domicile.fake_with(fake.value, fake.kind, k.inner_pad, k.outer_pad)
        from domicile.mask_key k where k.domain = fake.domain);
comment on function domicile.fake(text, text, text) is
'MASK. An invented ''name'', ''email'' or ''city'', chosen by HMAC-SHA-256 of the value: equal values get equal fakes, different values may (512 names, 24 cities, 32 bits of e-mail). Class: lossy. Reveals which values may be equal. Domain as for domicile.pseudonym(text). NULL stays NULL, NULL for any other kind.';

-- redact, withheld -----------------------------------------------------------------------------------------------------

create function domicile.redact(value text) returns text
language sql immutable parallel safe return '[redacted]';
create function domicile.redact(value anyelement) returns anyelement
language sql immutable parallel safe as 'select case when false then value end';
comment on function domicile.redact(text) is
'MASK. ''[redacted]'' for every value, NULL included, so that not even absence shows; cut to the length of a shorter column. Class: lossy. Reveals nothing.';
comment on function domicile.redact(anyelement) is
'MASK. NULL of the value''s type. Class: lossy. Reveals nothing.';

create function domicile.withheld(value anyelement) returns anyelement
language sql immutable parallel safe as 'select case when false then value end';
comment on function domicile.withheld(anyelement) is
'MASK. NULL of the value''s type: what a column shows that no policy names. Class: lossy. Reveals nothing.';
