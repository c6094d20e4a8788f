-- The rows that the tables of schema.sql begin with, all of them; a region deletes what is not its own.

insert into kinds (region, id) values ('us', 1), ('eu', 1), ('ap', 1);

insert into kinds values
('us', 2, true, 32767, 2147483647, 9223372036854775807, 'NaN', 1.5, 'NaN', 'NaN', '12.34', '', '', '',
 'infinity', 'infinity', 'infinity', '24:00', '00:00+14', '1 year 2 mons 3 days 04:05:06.789', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11',
 '', '{"a" :  1, "a": 2}', '{"b": [1, null, "ü"], "a": 1e3}', B'10101', B'', '192.168.0.1/24', '10.0.0.0/8', '08:00:2b:01:02:03',
 '(1,-2)', '[1,5)', '[2020-01-01 00:00+00,)', '{[1,3),[7,9)}', '{}', '{}', '{}', 'sad', '{}', 0, '', 'the quick fox'),
('eu', 2, false, -32768, -2147483648, -9223372036854775808, 'Infinity', -1.0001, 'Infinity', '-Infinity', '-0.01', 'žluťoučký 李 🦊', 'Ä', 'ab',
 '-infinity', '-infinity', '-infinity', '00:00', '23:59:59.999999-12', '-1 mons +2 days -00:00:00.000001', '00000000-0000-0000-0000-000000000000',
 '\x00ff5c27', 'null', 'null', B'00000', B'1', '::1', '2001:db8::/32', 'ff:ff:ff:ff:ff:ff',
 '(-0,1e308)', 'empty', 'empty', '{}', '{"a","b \"c\"",NULL,"",null,"NULL","ü,{}"}', '{1,NULL,-3}', '{{1.0,2.50},{NaN,-0}}', 'happy', '{sad,NULL,happy}', 100, 'x', ''),
('ap', 2, null, 0, 0, 0, '-Infinity', 0, '-0', '-0', '0', E'a\tb\nc\\d''e"f', 'x ', 'x',
 '0044-03-15 BC', '1999-12-31 23:59:59.999999', '2024-02-29 12:34:56.789+05:30', '12:34:56.123456', '12:00+00', '0', 'ffffffff-ffff-ffff-ffff-ffffffffffff',
 '\xdeadbeef', '[]', '{}', B'11111', B'0101010101', '10.1.2.3', '0.0.0.0/0', '00:00:00:00:00:00',
 '(0,0)', '[,]', '[,"2024-01-01 00:00+00"]', '{(,)}', '{{a,b},{c,d}}', '[0:1]={7,8}', '{1e-20,1e20}', 'ok', '{ok}', 50.55, 'lbl', '''a'':1A b:2');

insert into kinds (region, id, b, i2, i4, i8, n, n4, f4, f8, t, v, c, d, ts, tsz, iv, u, jb, ta, ia, mood, pct, lbl)
select (array['us', 'eu', 'ap'])[1 + i % 3], i, i % 2 = 0, i, i * 1000, i * 10000000000, i::numeric / 7, i * 1.25, i / 3.0, i / 7.0,
    (array['Ann', 'ann', 'Änne', 'Zoë', 'žena', '', ' a', '李'])[1 + i % 8], 'v' || i % 5, (array['a', 'b', 'ab'])[1 + i % 3],
    date '2024-01-01' + i, timestamp '2024-01-01' + i * interval '7 hours', timestamptz '2024-01-01 00:00+00' + i * interval '13 hours',
    make_interval(days => i, hours => i % 24), md5(i::text)::uuid, jsonb_build_object('i', i, 'even', i % 2 = 0),
    array['x' || i % 3, 'y'], array[i, i * 2], (array['sad', 'ok', 'happy'])[1 + i % 3]::mood, i, 'label ' || i % 4
from generate_series(3, 50) i;

insert into "Größe ""x""" values
('DE', 1.80, 'a', 1), ('DE', 1.65, null, 2), ('US', 1.75, 'b', 3), ('JP', null, 'c', 4), ('FR', 2.00, 'a', 5), ('IN', 1.55, '', 6);

insert into tickets select i * 1024 + n, 'ticket ' || i || ' of ' || n, i % 2 = 0, (array['sad', 'ok', 'happy', null])[1 + (i + n) % 4]::mood
from generate_series(0, 4) i, generate_series(1, 3) n;
insert into ticket_notes select t.id, n, case when n = 2 then null else 'note ' || n || ' on ' || t.id end, timestamptz '2025-01-01 00:00+00' + n * interval '1 day'
from tickets t, generate_series(1, 2) n where t.id < 4000;

insert into accounts select r, i, 1000 from unnest('{us,eu,ap}'::text[]) r, generate_series(1, 8) i;
insert into offices values (1, 'Berlin'), (2, 'Paris'), (3, 'Praha');
