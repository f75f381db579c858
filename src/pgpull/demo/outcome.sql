-- How many messages are here, and a hash of them all; then the same of those in scope.
select count(*),
       coalesce(sum(hash), 0),
       count(*) filter (where is_in_scope),
       coalesce(sum(hash) filter (where is_in_scope), 0)
from (
    select hashtextextended(message::text, 0) as hash,
           created_at >= current_setting('demo.since')::timestamptz
           and created_at < current_setting('demo.until')::timestamptz as is_in_scope
    from askwealth.message
) as hashed;
