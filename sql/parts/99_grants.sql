-- Who may call what. What runs with its owner's rights is closed to PUBLIC; what does not can do no more than its caller.
-- Foreign roles have no USAGE on the schema, so the EXECUTE that PUBLIC keeps on mask functions lets
-- them be computed in views and called by nobody from abroad.

do $$
declare
    f record;
begin
    for f in
        select p.oid::regprocedure as signature, p.proname as name, p.prosecdef as definer from pg_catalog.pg_proc p where p.pronamespace = 'domicile'::regnamespace
    loop
        if f.definer and f.name not in ('here', 'next_id', 'region_of', 'set_password') then
            execute format('revoke all on function %s from public', f.signature);
        end if;
        if f.name in ('create_region', 'drop_region', 'set_here', 'set_locality', 'set_mapping', 'accept_mapping', 'finish_move', 'rows_by_home', 'claim_batch', 'confirm_batch', 'verdict', 'batch_arrived', 'propose', 'approve', 'reject', 'auto_approve', 'delivered', 'move_obstacles', 'family',
            'create_policy', 'alter_policy', 'drop_policy', 'policy_diff', 'settle', 'close_border', 'audit', 'snapshot', 'align_ids', 'reach', 'enroll', 'version') then
            execute format('grant execute on function %s to domicile_admin', f.signature);
        end if;
    end loop;
end
$$;

grant usage on schema domicile to domicile_local, domicile_admin, domicile_node;
grant execute on function domicile.snapshot(), domicile.audit(), domicile.settle(boolean), domicile.version(), domicile.verifier(text),
    domicile.login_secret(text, text), domicile.copy_source(regclass, text), domicile.enroll(text, text), domicile.reach(text), domicile.delivered(uuid, text, text) to domicile_node;
grant select on all tables in schema domicile to domicile_admin;
revoke all on domicile.secret, domicile.mask_key, domicile.enrolled from domicile_admin;
grant select on domicile.region, domicile.locality, domicile.policy, domicile.change, domicile.border_view, domicile.finding, domicile.exposure,
    domicile.mapping, domicile.mapping_entry, domicile.pending, domicile.outstanding, domicile.setting to domicile_node;
grant select, insert on domicile.egress to domicile_node;
