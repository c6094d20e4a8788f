-- Transactions that wrote in several regions. This region coordinates those of its own gateway's clients: the other
-- regions' parts are prepared first, and the commit of this region's part, which writes the outcome, decides. Who finds
-- a transaction unfinished later asks here, and the asking settles it: an outcome stands once, whoever writes it first.

create table domicile.two_phase (
    gid         text primary key,
    role        text not null,
    regions     text[] not null,
    began_at    timestamptz not null default now(),
    finished_at timestamptz
);
comment on table domicile.two_phase is
    'Transactions over several regions that this region coordinates: written before any other region prepares its part, '
    'finished when every region has committed or rolled back';
create index two_phase_unfinished on domicile.two_phase (began_at) where finished_at is null;

create table domicile.outcome (
    gid       text primary key,
    committed boolean not null,
    at        timestamptz not null default now()
);
comment on table domicile.outcome is
    'What became of a transaction over several regions. Written by its own commit, or, as an abort, by recovery';

create function domicile.begin_two_phase(gid text, role text, regions text[]) returns void
language sql security definer set search_path = pg_catalog, pg_temp as $$
    insert into domicile.two_phase (gid, role, regions) values ($1, $2, $3);
$$;
comment on function domicile.begin_two_phase(text, text, text[]) is
    'Notes, before anything is prepared, that this transaction of a role may have parts in these regions';

create function domicile.decide(gid text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    insert into domicile.outcome (gid, committed) values (decide.gid, true);
exception when unique_violation then
    raise exception using
        errcode = '40001',
        message = 'the transaction was given up by recovery before it committed',
        hint = 'Try it again.';
end
$$;
comment on function domicile.decide(text) is
    'The outcome of a transaction over several regions, written by the transaction itself: its commit is the decision';

create function domicile.outcome(gid text) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    -- Waits for a commit that is under way, and loses to it; otherwise nobody can commit this transaction any more.
    insert into domicile.outcome as v (gid, committed) values (outcome.gid, false) on conflict do nothing;
    return (select v.committed from domicile.outcome v where v.gid = outcome.gid);
end
$$;
comment on function domicile.outcome(text) is
    'Whether the transaction committed. Where it has not, it never will: asking settles it';

create function domicile.end_two_phase(gid text) returns void
language sql security definer set search_path = pg_catalog, pg_temp as $$
    update domicile.two_phase t set finished_at = now() where t.gid = $1;
    -- What is long finished is no longer asked for.
    delete from domicile.outcome v using domicile.two_phase t
        where v.gid = t.gid and t.finished_at < now() - interval '1 day';
    delete from domicile.two_phase t where t.finished_at < now() - interval '1 day';
$$;
comment on function domicile.end_two_phase(text) is 'Every region has done what the outcome says';

create view domicile.in_doubt as
    select t.gid, t.role, t.regions, t.began_at, v.committed
    from domicile.two_phase t left join domicile.outcome v using (gid)
    where t.finished_at is null;
comment on view domicile.in_doubt is
    'Transactions over several regions, coordinated here, that are not finished: committed is null where none has decided';

revoke all on function domicile.decide(text) from public;
grant execute on function domicile.decide(text) to domicile_local;
grant execute on function domicile.begin_two_phase(text, text, text[]), domicile.outcome(text), domicile.end_two_phase(text)
    to domicile_node;
grant select on domicile.in_doubt to domicile_node, domicile_admin;
