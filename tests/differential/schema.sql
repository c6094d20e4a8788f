-- Beside the shop: every type that a row at home may hold, every way to name a home, and names that must be quoted.

create type mood as enum ('sad', 'ok', 'happy');
create domain percent as numeric(5, 2) check (value between 0 and 100);
create domain label as text;

create table kinds (
    region text not null,
    id     integer not null,
    b      boolean,
    i2     smallint,
    i4     integer,
    i8     bigint,
    n      numeric,
    n4     numeric(14, 4),
    f4     real,
    f8     double precision,
    m      money,
    t      text,
    v      varchar(20),
    c      char(5),
    d      date,
    ts     timestamp,
    tsz    timestamptz(3),
    tm     time,
    tmz    timetz,
    iv     interval,
    u      uuid,
    by     bytea,
    j      json,
    jb     jsonb,
    bits   bit(5),
    vb     bit varying,
    ip     inet,
    net    cidr,
    mac    macaddr,
    pt     point,
    r      int4range,
    tr     tstzrange,
    mr     int4multirange,
    ta     text[],
    ia     integer[],
    na     numeric[],
    mood   mood,
    moods  mood[],
    pct    percent,
    lbl    label,
    tsv    tsvector,
    primary key (region, id)
);

create table "Größe ""x""" (
    "Land"   text not null references countries,
    "Höhe"   numeric(6, 2),
    "select" text,
    id       bigint primary key
);

create table tickets (
    id    bigint primary key,
    title text not null unique,
    open  boolean not null default true,
    mood  mood default 'ok'
);

create table ticket_notes (
    ticket_id bigint not null references tickets,
    n         integer not null,
    note      text,
    at        timestamptz,
    primary key (ticket_id, n)
);

create table accounts (
    region text not null,
    id     integer not null,
    amount bigint not null check (amount >= 0),
    primary key (region, id)
);

create table offices (
    id   integer primary key,
    city text not null
);

grant select, insert, update, delete on kinds, "Größe ""x""", tickets, ticket_notes, accounts, offices to app;
