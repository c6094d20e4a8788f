"""What a statement from another region may name: the guard's allow-lists, all of them, in one file.

Whatever is not here is refused. Left out on purpose, with the reason:

 - pg_notify, LISTEN: a channel that no privilege closes; nextval, setval and other functions with effects
 - lo_…, pg_read_…, pg_ls_…, pg_stat_…, pg_relation_size and the like: the server's files, counters and sizes
 - pg_advisory_…: locks that no privilege closes
 - query_to_xml, table_to_xml, cursor_to_xml, ts_stat, ts_rewrite: they run a text or name a table that was not checked
 - current_setting, set_config: settings have SHOW and SET, whose names are checked
 - to_reg…, format_type, obj_description, pg_get_…, has_…_privilege, types reg…: what the catalog holds
 - what operators are made of (int4pl): nobody writes it
"""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


FUNCTIONS = _words(
    """
    abs acos acosd acosh asin asind asinh atan atan2 atan2d atand atanh cbrt ceil ceiling cos cosd cosh cot cotd
    degrees div erf erfc exp factorial floor gamma gcd lcm lgamma ln log log10 min_scale mod pi pow power radians
    random random_normal round scale setseed sign sin sind sinh sqrt tan tand tanh trim_scale trunc width_bucket

    ascii bit_length btrim casefold char_length character_length chr concat concat_ws convert convert_from convert_to
    decode encode format initcap is_normalized left length like like_escape lower lpad ltrim md5 normalize notlike
    octet_length overlay parse_ident position quote_ident quote_literal quote_nullable regexp_count regexp_instr
    regexp_like regexp_match regexp_matches regexp_replace regexp_split_to_array regexp_split_to_table regexp_substr
    repeat replace reverse right rpad rtrim similar_escape similar_to_escape split_part starts_with string_to_array
    string_to_table strpos substr substring textlen to_ascii to_bin to_hex to_oct translate unicode_assigned unistr
    upper
    bit_count crc32 crc32c get_bit get_byte set_bit set_byte sha224 sha256 sha384 sha512

    age clock_timestamp date_add date_bin date_part date_subtract date_trunc extract isfinite justify_days
    justify_hours justify_interval make_date make_interval make_time make_timestamp make_timestamptz now overlaps
    statement_timestamp timeofday timezone to_char to_date to_number to_timestamp transaction_timestamp

    array_append array_cat array_dims array_fill array_length array_lower array_ndims array_position array_positions
    array_prepend array_remove array_replace array_reverse array_sample array_shuffle array_sort array_to_json
    array_to_string array_upper cardinality generate_series generate_subscripts trim_array unnest

    json_array_elements json_array_elements_text json_array_length json_build_array json_build_object json_each
    json_each_text json_extract_path json_extract_path_text json_object json_object_keys json_populate_record
    json_populate_recordset json_strip_nulls json_to_record json_to_recordset json_typeof jsonb_array_elements
    jsonb_array_elements_text jsonb_array_length jsonb_build_array jsonb_build_object jsonb_concat jsonb_each
    jsonb_each_text jsonb_extract_path jsonb_extract_path_text jsonb_insert jsonb_object jsonb_object_keys
    jsonb_path_exists jsonb_path_exists_tz jsonb_path_match jsonb_path_match_tz jsonb_path_query
    jsonb_path_query_array jsonb_path_query_array_tz jsonb_path_query_first jsonb_path_query_first_tz
    jsonb_path_query_tz jsonb_populate_record jsonb_populate_recordset jsonb_pretty jsonb_set jsonb_set_lax
    jsonb_strip_nulls jsonb_to_record jsonb_to_recordset jsonb_typeof row_to_json to_json to_jsonb

    any_value array_agg avg bit_and bit_or bit_xor bool_and bool_or corr count covar_pop covar_samp every json_agg
    json_agg_strict json_object_agg json_object_agg_strict json_object_agg_unique json_object_agg_unique_strict
    jsonb_agg jsonb_agg_strict jsonb_object_agg jsonb_object_agg_strict jsonb_object_agg_unique
    jsonb_object_agg_unique_strict max min mode percentile_cont percentile_disc range_agg range_intersect_agg
    regr_avgx regr_avgy regr_count regr_intercept regr_r2 regr_slope regr_sxx regr_sxy regr_syy stddev stddev_pop
    stddev_samp string_agg sum var_pop var_samp variance xmlagg
    cume_dist dense_rank first_value lag last_value lead nth_value ntile percent_rank rank row_number

    isempty lower_inc lower_inf multirange range_merge upper_inc upper_inf
    int4range int8range numrange daterange tsrange tstzrange
    int4multirange int8multirange nummultirange datemultirange tsmultirange tstzmultirange

    array_to_tsvector json_to_tsvector jsonb_to_tsvector numnode phraseto_tsquery plainto_tsquery querytree setweight
    strip to_tsquery to_tsvector ts_delete ts_filter ts_headline ts_rank ts_rank_cd tsquery_phrase tsvector_to_array
    websearch_to_tsquery

    abbrev broadcast family host hostmask inet_merge inet_same_family macaddr8_set7bit masklen netmask network
    set_masklen
    area box center circle diagonal diameter height isclosed ishorizontal isopen isparallel isperp isvertical line
    lseg npoints path pclose point polygon popen radius slope width
    enum_first enum_last enum_range
    gen_random_uuid uuid_extract_timestamp uuid_extract_version uuidv4 uuidv7
    xml_is_well_formed xml_is_well_formed_content xml_is_well_formed_document xmlcomment xmlexists xmltext xpath
    xpath_exists

    bit bool bpchar bytea char date float4 float8 int2 int4 int8 interval money name numeric oid text time timestamp
    timestamptz timetz varbit varchar xml

    anytextcat bound_box icu_unicode_version in_range unicode_version xmlconcat2 xmlvalidate
    current_database current_schema current_schemas num_nonnulls num_nulls pg_backend_pid pg_column_size pg_sleep
    pg_typeof version
    """
)
"""Functions of pg_catalog that compute from their arguments alone, or say what a client knows anyway."""

SESSION_FUNCTIONS = _words("pg_current_wal_insert_lsn")
"""What gateways need beside: the position after a commit, for reads of one's own writes."""

SETTINGS = _words(
    """
    application_name array_nulls bytea_output client_encoding client_min_messages datestyle
    default_text_search_config default_transaction_deferrable default_transaction_isolation
    default_transaction_read_only enable_bitmapscan enable_hashagg enable_hashjoin enable_indexonlyscan
    enable_indexscan enable_material enable_memoize enable_mergejoin enable_nestloop enable_seqscan enable_sort
    escape_string_warning extra_float_digits from_collapse_limit geqo idle_in_transaction_session_timeout
    intervalstyle jit join_collapse_limit lc_monetary lc_numeric lc_time lock_timeout plan_cache_mode
    standard_conforming_strings statement_timeout timezone transaction_deferrable transaction_isolation
    transaction_read_only transaction_timeout xmlbinary xmloption
    """
)
"""What may be set from abroad: never search_path, role, session_authorization, row_security or a resource limit."""

FIXED_SETTINGS = {
    # The guard reads statements as UTF-8 and with plain strings; under another value PostgreSQL would read others.
    "client_encoding": _words("utf8 utf-8 unicode"),
    "standard_conforming_strings": _words("on true yes 1"),
}
"""Settings that may be set to these values only."""

SHOWN = SETTINGS | _words(
    """
    in_hot_standby integer_datetimes is_superuser lc_collate lc_ctype max_identifier_length search_path server_encoding
    server_version server_version_num session_authorization
    """
)

NODES = _words(
    """
    A_ArrayExpr A_Const A_Expr A_Indices A_Indirection A_Star Alias BitString BoolExpr Boolean BooleanTest CaseExpr
    CaseWhen CoalesceExpr CollateClause ColumnDef ColumnRef CommonTableExpr CTECycleClause CTESearchClause
    CurrentOfExpr DefElem Float FuncCall GroupingFunc GroupingSet IndexElem InferClause Integer JoinExpr
    JsonAggConstructor JsonArgument JsonArrayAgg JsonArrayConstructor JsonArrayQueryConstructor
    JsonBehavior JsonFormat JsonFuncExpr
    JsonIsPredicate JsonKeyValue JsonObjectAgg JsonObjectConstructor JsonOutput JsonParseExpr JsonReturning
    JsonScalarExpr JsonSerializeExpr JsonTable JsonTableColumn JsonTablePathSpec JsonValueExpr List LockingClause
    MergeWhenClause MinMaxExpr MultiAssignRef NamedArgExpr NullTest OnConflictClause ParamRef RangeFunction
    RangeSubselect RangeTableFunc RangeTableFuncCol RangeVar ResTarget ReturningClause
    ReturningOption RowExpr SetToDefault SortBy
    SQLValueFunction String SubLink TypeCast TypeName WindowDef WithClause XmlExpr XmlSerialize
    SelectStmt InsertStmt UpdateStmt DeleteStmt MergeStmt
    """
)
"""Nodes of libpg_query's tree that may stand anywhere in a query. Statement kinds beyond these are admission.py's."""

EXPLAIN_OPTIONS = _words("verbose costs format generic_plan summary analyze")
"""`analyze` only when off: "Rows Removed by Filter" tells of rows that policy hides."""

COPY_OPTIONS = _words(
    "format delimiter null default header quote escape force_quote force_not_null force_null encoding"
)

OBJECT_TYPES = _words(
    """
    aclitem regclass regcollation regconfig regdictionary regnamespace regoper regoperator regproc regprocedure
    regrole regtype
    """
)
"""Types whose input and output look the catalog up, whoever asks: '…'::regclass tells whether a table exists, aclitem
a role."""

OBJECT_TYPE_OIDS = frozenset(
    {24, 1033, 2202, 2203, 2204, 2205, 2206, 3734, 3769, 4089, 4096, 4191}
    | {1008, 1034, 2207, 2208, 2209, 2210, 2211, 3735, 3770, 4090, 4097, 4192}
)
"""The same (and their arrays) by number, as Parse may give them for parameters: fixed for ever in pg_type.dat."""
