-- Which rows the demo made here, if any.
select obj_description(to_regnamespace('askwealth'), 'pg_namespace');
