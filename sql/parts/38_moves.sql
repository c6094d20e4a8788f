-- Moving rows home when a filled table is pinned: domicile/move.py does it, batch by batch. A batch is prepared in the
-- row's new home first; the commit here, which deletes the rows and writes the batch's id, decides; then the new home
-- commits. Whoever finds a prepared batch later asks this table: an id that stands here goes on, any other goes back.

create table domicile.move_batch (
    gid     text primary key,
    target  text not null,
    rows    bigint not null,
    decided timestamptz not null default now()
);
comment on table domicile.move_batch is 'Batches of rows that left for their home and are not yet known to have arrived';
