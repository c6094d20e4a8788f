-- What this region knows and has agreed to. Nothing here is read by a role of another region: they have no USAGE on
-- the schema. Tables name a relation by regclass, so that a rename is followed and a dump restores.

create table domicile.setting (
    name text primary key,
    value text not null
);
comment on table domicile.setting is 'here: this region''s name; foreign_connection_limit; and what settle() remembers';

create table domicile.secret (
    name text primary key,
    value bytea not null
);
comment on table domicile.secret is 'guard: the key from which this region''s guard derives the passwords of foreign roles. Never leaves';

create table domicile.region (
    name text primary key check (name ~ '^[a-z][a-z0-9_]{0,15}$'),
    number integer not null unique check (number between 1 and 1023),
    jurisdiction text not null check (jurisdiction <> ''),
    marker uuid
);
comment on table domicile.region is 'The regions of the federation, this one included';
comment on column domicile.region.number is 'carried in the low ten bits of ids: domicile.region_of(id)';
comment on column domicile.region.jurisdiction is 'the law it stands under; policies may name it';
comment on column domicile.region.marker is 'the identity of the region''s database: who does not know it is not that region';

create table domicile.change (
    version bigint generated always as identity primary key,
    at timestamptz not null default clock_timestamp(),
    who text not null default session_user,
    what text not null,
    detail jsonb not null default '{}'
);
comment on table domicile.change is 'Every change of the catalog: its version, when, who, what. The last version is the catalog''s';

create table domicile.mapping (
    rel regclass primary key,
    key_column text not null,
    region_column text not null,
    at_home regclass not null
);
comment on table domicile.mapping is 'Tables that map a key (a country) to a region; at_home is the list of keys at home here';

create table domicile.mapping_entry (
    rel regclass references domicile.mapping on delete cascade,
    key text,
    region text not null references domicile.region,
    primary key (rel, key)
);
comment on table domicile.mapping_entry is
    'What a mapping says, as agreed here: a change of the user''s table counts only once domicile.accept_mapping has taken it over';

create table domicile.locality (
    rel regclass primary key,
    locality text not null check (locality in ('pinned', 'global', 'regional')),
    key_kind text check (key_kind in ('region', 'mapped', 'id', 'parent')),
    columns text[] not null default '{}',
    mapping regclass references domicile.mapping,
    parent regclass,
    parent_columns text[] not null default '{}',
    home text references domicile.region,
    state text not null default 'open' check (state in ('open', 'pinning')),
    accepted text[] not null default '{}',
    check ((locality = 'pinned') = (key_kind is not null)),
    check ((locality = 'regional') = (home is not null))
);
comment on table domicile.locality is 'The managed tables: domicile.set_locality writes it';
comment on column domicile.locality.state is
    'pinning: rows of other regions are still here, nothing is shared yet; domicile.finish_move opens it';
comment on column domicile.locality.accepted is 'constraints and triggers that could speak across the border, accepted by name';

create table domicile.policy (
    rel regclass,
    name text,
    regions text[] check (cardinality(regions) > 0),
    jurisdictions text[] check (cardinality(jurisdictions) > 0),
    roles text[] check (cardinality(roles) > 0),
    rows text,
    clear text[] not null default '{}',
    masks jsonb not null default '{}',
    options jsonb not null default '{}',
    since bigint not null,
    primary key (rel, name),
    check (regions is null or jurisdictions is null)
);
comment on table domicile.policy is
    'What other regions may see of a table. Of the policies that fit a region and role the most specific wins, whole: '
    'one that names roles before one that does not, then regions, then jurisdictions, then all';
comment on column domicile.policy.since is 'the catalog''s version since which it stands as it is';

create table domicile.managed_column (
    rel oid,
    attnum smallint,
    name text not null,
    primary key (rel, attnum)
);
comment on table domicile.managed_column is 'Names of managed tables'' columns when last seen: how a rename is followed';

create table domicile.border_view (
    destination text,
    rel regclass,
    view oid not null,
    definition text not null,
    digest text not null,
    primary key (destination, rel)
);
comment on table domicile.border_view is 'The views of the to_... schemas as they were made: how a tampered one is found';

create table domicile.foreign_role (
    name text primary key,
    role text not null,
    region text not null,
    unique (role, region)
);
comment on table domicile.foreign_role is 'The roles "role@region" that Domicile made; it touches no other';

create table domicile.enrolled (
    role text primary key,
    verifier text not null,
    at timestamptz not null default now()
);
comment on table domicile.enrolled is 'SCRAM verifiers of local roles, where the server does not let the installer read its own';

create table domicile.finding (
    finding text not null,
    object text not null,
    repaired boolean not null,
    at timestamptz not null default clock_timestamp()
);
comment on table domicile.finding is 'What the last settle() found: repaired, or still open';

create table domicile.egress (
    id bigint generated always as identity primary key,
    at timestamptz not null default clock_timestamp(),
    destination text not null,
    role text,
    via text not null,
    relation text,
    columns text[],
    rows bigint not null,
    bytes bigint not null,
    version bigint,
    digest bytea not null
);
comment on table domicile.egress is
    'The ledger of what left this region: append-only, each row''s digest covers the row before it, so that a gap shows';
comment on column domicile.egress.via is 'guard (a live query) or stream (a copy, a feed)';
comment on column domicile.egress.version is 'the catalog''s version whose policies let it leave';
