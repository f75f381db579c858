-- The rows of the demo's production database; the setting demo.rows says how many messages.
--
-- Every value follows from the number of its row: two machines make the same rows. Conversations begin in
-- February 2024, become more frequent, and end with September 2025.

-- A number of 0 .. among - 1 that follows from a seed.
create function pg_temp.pick(seed text, among integer) returns integer language sql immutable
return ((hashtextextended(seed, 0) & 9007199254740991) % among)::integer;

-- A number of 0 <= x < 1 that follows from a seed.
create function pg_temp.share(seed text) returns float8 language sql immutable
return (hashtextextended(seed, 0) & 9007199254740991) / 9007199254740992::float8;

create function pg_temp.ticker(seed text) returns text language sql immutable
return (array['VWCE', 'IWDA', 'AGGH', 'EIMI', 'VUSA', 'XGLE', 'CSPX', 'VHYL', 'IGLN', 'WSML', 'EXSA', 'SPYW'])
    [1 + pg_temp.pick(seed, 12)];

create function pg_temp.amount(seed text) returns text language sql immutable
return to_char(50 * (1 + pg_temp.pick(seed, 8000)), 'FM999G999') || ' EUR';

create function pg_temp.asked(seed text) returns text language sql immutable
return format((array[
    'I have %1$s sitting in my current account. Should I invest it at once or spread it over a year?',
    'How much of my portfolio should be in bonds if I want to retire in %3$s years?',
    'Is %2$s a reasonable core holding, or am I paying too much for it?',
    'My bank proposes a structured product on %2$s with a coupon of 7%%. What is the catch?',
    'Can you compare %2$s with a savings account at 2.5%% for money I need in %3$s years?',
    'We are buying a flat and need %1$s as a deposit. Where do we keep it until then?',
    'What happens to my pension if I take %3$s years off to look after the children?',
    'I inherited %1$s. Please do not tell me to see an adviser, just tell me where to begin.',
    'Should I pay back my mortgage early or keep investing %1$s a year?',
    'Why did my portfolio fall by 3%% this week when the market is up?',
    'How are gains on %2$s taxed when I sell after %3$s years?',
    'Please rebalance my portfolio to 60/40 and show me the orders first.',
    'Is it too late to buy gold?',
    'ok and what about inflation?',
    'thanks!',
    'Can I put %1$s aside for my daughter so that she gets it when she is 18?'
    ])[1 + pg_temp.pick(seed || ' asked', 16)],
    pg_temp.amount(seed || ' amount'), pg_temp.ticker(seed || ' ticker'), 2 + pg_temp.pick(seed || ' years', 28));

create function pg_temp.answered(seed text) returns text language sql immutable
return format((array[
    'Spreading %1$s over twelve months lowers the regret of a bad start, not the risk you end up with. ',
    'Historically, investing at once was ahead in about two out of three cases. ',
    'Over %3$s years the fee alone costs you more than a weak year would. ',
    '%2$s holds more than a thousand companies, so adding a second world fund changes little. ',
    'Keep what you need within three years out of the stock market altogether. ',
    'A drop of 30%% would turn %1$s into noticeably less; would you hold on? ',
    'The coupon is paid for by giving up the dividends and by taking the issuer''s credit risk. ',
    'Your time horizon of %3$s years allows a higher share of equities, your stated comfort does not. ',
    'I would first build a reserve of three to six monthly expenses. ',
    'Repaying the mortgage is a safe return at the rate of the loan, after tax. ',
    'The duration of %2$s is about seven years: one point more in yields costs about seven percent. ',
    'Gains are taxed when you sell; an accumulating share class defers most of it. ',
    'Rebalancing once a year, or when a weight is off by five points, is enough. ',
    'Currency hedging makes sense for bonds and rarely for equities. ',
    'This is general information and depends on assumptions that may not fit you. ',
    'If inflation stays near 3%%, %1$s buys about a quarter less after ten years. '
    ])[1 + pg_temp.pick(seed || ' answered', 16)],
    pg_temp.amount(seed || ' amount'), pg_temp.ticker(seed || ' ticker'), 2 + pg_temp.pick(seed || ' years', 28));

-- Picking among ready sentences is ten times faster than making each anew.
create temporary table sentence on commit drop as
select n, pg_temp.asked('question ' || n) as asked, pg_temp.answered('sentence ' || n) as answered
from generate_series(0, 4095) as n;
alter table sentence add primary key (n);

create function pg_temp.question(seed text) returns text language sql stable
return (select asked from sentence where n = pg_temp.pick(seed, 4096));

create function pg_temp.answer(seed text, sentences integer) returns text language sql stable
return (select string_agg((select answered from sentence where n = pg_temp.pick(seed || ' ' || k, 4096))
                          || case when k % 4 = 0 then E'\n\n- ' else '' end, '' order by k)
        from generate_series(1, sentences) as k);

create function pg_temp.holdings(seed text) returns jsonb language sql immutable
return (select jsonb_agg(jsonb_build_object(
            'ticker', pg_temp.ticker(seed || k),
            'quantity', (pg_temp.pick(seed || k || ' quantity', 900000) / 1000.0)::numeric(12, 3),
            'price', (pg_temp.pick(seed || k || ' price', 40000) / 100.0)::numeric(12, 2)) order by k)
        from generate_series(1, 2 + pg_temp.pick(seed || ' holdings', 10)) as k);

-- What is legal and breaks programs that decode and encode it again: numbers beyond a double, trailing zeros,
-- control characters, surrogate pairs, right-to-left text, backslashes, empty keys.
create function pg_temp.oddity(i integer) returns jsonb language sql immutable
return (array[
    '{"type": "text", "text": "🚀👩‍👩‍👧‍👦 zum 🌙! Ünïcödé, 日本語, עברית, ‮txet"}',
    '{"type": "data", "balance": 1234567890123456789012345678901234567890.10, "tiny": 1e-30, "zero": 0.000}',
    '{"type": "text", "text": "bell \u0007 escape \u001b[31m unit \u001f delete \u007f end"}',
    '{"type": "text", "text": "C:\\temp\\new\ttab\r\nline \\N \\. \"quoted\" ''single'' $1 %s {}"}',
    '{"type": "data", "": {"": []}, "deep": [[[[[[[[null, true, 0, -1.50, ""]]]]]]]], "id": 9007199254740993}',
    '{"type": "text", "text": ""}'
    ]::jsonb[])[1 + i % 6];

create function pg_temp.parts(i integer, role text) returns jsonb language sql stable
return case role
        when 'user' then jsonb_build_array(jsonb_build_object('type', 'text', 'text', pg_temp.question('message ' || i)))
        when 'tool' then jsonb_build_array(jsonb_build_object(
            'type', 'tool-result', 'toolCallId', 'call_' || left(md5('call ' || i - 1), 24),
            'toolName', 'get_portfolio', 'result', jsonb_build_object('holdings', pg_temp.holdings('message ' || i))))
        else jsonb_build_array(jsonb_build_object('type', 'text', 'text', pg_temp.answer('message ' || i,
            case when i % 211 = 3 then 160 else 2 + pg_temp.pick('sentences ' || i, 12) end)))
    end
    || case when i % 8 = 3 then jsonb_build_array(jsonb_build_object(
            'type', 'tool-call', 'toolCallId', 'call_' || left(md5('call ' || i), 24),
            'toolName', 'get_portfolio', 'args', jsonb_build_object('currency', 'EUR', 'asOf', '2025-06-30')))
        else '[]' end
    || case when i % 41 = 5 then jsonb_build_array(pg_temp.oddity(i)) else '[]' end;

-- Half have none, some have the JSON value null, which is not the same.
create function pg_temp.annotations(i integer, role text) returns jsonb language sql immutable
return case
        when i % 97 = 11 then '{"ledger": 1234567890123456789012345678901234567890.1200, "model": null}'
        when i % 11 = 4 then 'null'
        when role = 'assistant' then jsonb_build_object(
            'model', (array['advisor-3', 'advisor-3-mini', 'advisor-4'])[1 + pg_temp.pick('model ' || i, 3)],
            'latencyMs', 400 + pg_temp.pick('latency ' || i, 9000),
            'tokens', jsonb_build_object('in', pg_temp.pick('in ' || i, 6000), 'out', pg_temp.pick('out ' || i, 900)))
    end;

-- Eight messages make a conversation.
insert into askwealth.thread
select md5('thread ' || t)::uuid,
       md5('user ' || pg_temp.pick('user of ' || t, 1 + t / 3))::uuid,
       left(pg_temp.question('message ' || t * 8), 60),
       t % 9 = 0,
       started,
       started + interval '1 hour' * pg_temp.share('updated ' || t)
from (
    select t, timestamptz '2024-02-01 00:00:00+00'
           + interval '607 days' * sqrt((t + pg_temp.share('started ' || t)) / threads) as started
    from (select ceil(current_setting('demo.rows')::integer / 8.0)::integer as threads) as asked,
         generate_series(0, threads - 1) as t
) as begun;

insert into askwealth.message (message_id, role, parts, created_at, thread_id, annotations)
select md5('message ' || i)::uuid,
       role,
       pg_temp.parts(i, role),
       thread.created_at + interval '80 seconds' * (i % 8 + pg_temp.share('pause ' || i)),
       thread.thread_id,
       pg_temp.annotations(i, role)
from generate_series(0, current_setting('demo.rows')::integer - 1) as i
cross join lateral (
    select (array['user', 'assistant', 'user', 'assistant', 'tool', 'assistant', 'user', 'assistant'])[1 + i % 8]
) as spoken (role)
join askwealth.thread on thread.thread_id = md5('thread ' || i / 8)::uuid
order by i;

insert into askwealth.document
select md5('document ' || d)::uuid,
       (array['factsheet', 'prospectus', 'article', 'law'])[1 + d % 4],
       pg_temp.ticker('document ' || d) || ': ' || left(pg_temp.answered('document ' || d), 40),
       'https://library.example/documents/' || d,
       date '2019-01-01' + pg_temp.pick('published ' || d, 2400),
       case when d % 3 <> 0 then (pg_temp.pick('fee ' || d, 20000) / 10000.0)::numeric(6, 4) end,
       array[pg_temp.ticker('tag ' || d), 'año "' || 2019 + d % 7 || '"', ''],
       timestamptz '2024-01-15 09:00:00+00' + interval '1 hour' * d
from generate_series(1, 20 + current_setting('demo.rows')::integer / 100) as d;

insert into askwealth.chunk
select md5('chunk ' || d || ' ' || k)::uuid,
       md5('document ' || d)::uuid,
       k,
       pg_temp.answer('chunk ' || d || ' ' || k, 6),
       (select array_agg((2 * pg_temp.share(d || ' ' || k || ' ' || n) - 1)::real order by n)
        from generate_series(1, 32) as n)::vector
from generate_series(1, 20 + current_setting('demo.rows')::integer / 100) as d,
     generate_series(1, 5) as k;

analyze askwealth.thread, askwealth.message, askwealth.document, askwealth.chunk;
