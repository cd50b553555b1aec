-- Version 1 of the schema. It is run as one transaction, in an empty schema `tidings`.

create table tidings.about (
    version integer not null
);

-- One row for each log. It changes when a life begins or moves to another server, never with an append.
create table tidings.logs (
    id smallint generated always as identity primary key,
    name text collate "C" not null unique,
    epoch text collate "C" not null default '',
    life text not null default '',
    outbox_notify boolean not null default false
);

-- What trimming has moved. `floor_*` hold where the newest events are gone as well.
create table tidings.kept (
    log smallint primary key,
    oldest bigint not null default 1,
    oldest_sum bigint not null default 0,
    hole_events bigint not null default 0,
    hole_bytes bigint not null default 0,
    floor_next bigint not null default 1,
    floor_sum bigint not null default 0
) with (fillfactor = 20);

-- `size_sum` counts the bytes of all events of the log up to this one, so that no counter has to be updated by an
-- append: old versions of such a row would pile up behind every long transaction of the database.
create table tidings.events (
    "offset" bigint not null,
    size_sum bigint not null,
    appended_at bigint not null,
    retry_ms bigint,
    size integer not null,
    log smallint not null,
    -- 1: private, 2: the last event of its topics.
    flags smallint not null,
    topic text collate "C" not null,
    -- All topics after the first.
    more_topics text[] collate "C",
    event_type text collate "C",
    -- Text in UTF-8, which may hold NUL as the type text may not.
    data bytea not null,
    primary key (log, "offset")
) with (
    autovacuum_vacuum_scale_factor = 0.05,
    autovacuum_vacuum_threshold = 20000,
    autovacuum_vacuum_insert_scale_factor = 0.1,
    autovacuum_analyze_scale_factor = 0.2,
    autovacuum_vacuum_cost_delay = 1
);

-- Under which keys a topic is found: by its hash, and the run of 16,384 offsets, so that the events of a topic that is
-- not rare are found by pieces. There are at most four million keys, for an index like this never lets go of one; what
-- has the same key is told apart when it is read.
create function tidings.topic_key(p_log smallint, p_topic text, p_run bigint) returns integer
language sql immutable parallel safe
as $$ select ((hashtext(p_topic) # (p_log * 40503)) & 16383) | (((p_run & 255) << 14)::integer) $$;

create function tidings.topic_keys(p_log smallint, p_topics text[], p_run bigint) returns integer[]
language sql immutable parallel safe
as $$ select array_agg(distinct tidings.topic_key(p_log, t.topic, p_run)) from unnest(p_topics) t (topic) $$;

create function tidings.keys_of(
    p_log smallint, p_offset bigint, p_topic text, p_more_topics text[]
) returns integer[]
language sql immutable parallel safe
as $$
    select case when p_more_topics is null
        then array[tidings.topic_key(p_log, p_topic, p_offset >> 14)]
        else tidings.topic_keys(p_log, p_topic || p_more_topics, p_offset >> 14)
    end
$$;

-- Costs an append a third of what a B-tree does, because new entries are only noted, and put into their places by many.
create index events_by_topic on tidings.events
    using gin (tidings.keys_of(log, "offset", topic, more_topics)) with (gin_pending_list_limit = 1024);

-- Keys that count up over offsets that do so too are one row: `count` of them from `number` on. A key that does not
-- end in a colon and a number has the number -1.
create table tidings.keys (
    number bigint not null,
    "offset" bigint not null,
    at bigint not null,
    place bigint not null,
    count integer not null,
    log smallint not null,
    prefix text collate "C" not null,
    primary key (log, prefix, number)
) with (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 20000);

create unique index keys_by_place on tidings.keys (log, place);

-- Topics that had their last event.
create table tidings.finished (
    "offset" bigint not null,
    log smallint not null,
    topic text collate "C" not null,
    primary key (log, topic)
);

create index finished_by_offset on tidings.finished (log, "offset");

-- What retention rules have dropped: of each topic the highest offset.
create table tidings.dropped (
    "offset" bigint not null,
    log smallint not null,
    topic text collate "C" not null,
    primary key (log, topic)
) with (fillfactor = 80);

create index dropped_by_offset on tidings.dropped (log, "offset");

-- The answers of appends, so that one whose answer was lost can be repeated. A writer needs its last one only; rows are
-- inserted and not updated for the reason given at events.
create table tidings.appends (
    writer bigint not null,
    sequence bigint not null,
    at bigint not null,
    first bigint not null,
    log smallint not null,
    offsets bigint[],
    refused integer[],
    refused_topics text[],
    refused_offsets bigint[],
    primary key (log, writer, sequence)
) with (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 5000);

-- Notes of nodes for each other.
create unlogged table tidings.notes (
    log smallint not null,
    until timestamptz not null,
    name text collate "C" not null,
    note bytea not null,
    primary key (log, name)
) with (fillfactor = 50);

-- What a record's topics, type and key have to be for a hub to take them.
create function tidings.is_topic(topic text) returns boolean
language sql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
    select octet_length(topic) between 1 and 1024 and topic <> '*'
        and topic !~ '[\u0001-\u001f\u007f-\u009f]'
$$;

-- Events that transactions of applications publish, until a hub moves them into their log.
create table tidings.outbox (
    id bigint generated always as identity primary key,
    retry_ms bigint check (retry_ms >= 0),
    log smallint not null,
    is_private boolean not null default false,
    is_final boolean not null default false,
    topic text collate "C" not null check (tidings.is_topic(topic)),
    more_topics text[] collate "C",
    event_type text collate "C" check (
        octet_length(event_type) between 1 and 256
        and event_type !~ '[\n\r]' and not starts_with(event_type, 'tidings.')
    ),
    key text collate "C" check (
        octet_length(key) between 1 and 256 and key !~ '[\u0001-\u001f\u007f-\u009f]'
    ),
    data bytea not null check (octet_length(data) <= 16777216)
) with (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 5000);

create index outbox_by_log on tidings.outbox (log, id);

-- Where the log ends: the next offset and the bytes of all before it.
create function tidings.head(p_log smallint) returns table (next bigint, size_sum bigint)
language sql stable
as $$
    select greatest(k.floor_next, e."offset" + 1), greatest(k.floor_sum, e.size_sum)
    from tidings.kept k
    left join lateral (
        select e."offset", e.size_sum from tidings.events e
        where e.log = p_log order by e."offset" desc limit 1
    ) e on true
    where k.log = p_log
$$;

-- The offset that a key stands for; no row for none.
create function tidings.known_key(p_log smallint, p_key text, p_since bigint) returns table (known bigint)
language sql stable
as $$
    select k."offset" + (n.number - k.number)
    from (
        select
            coalesce((p.parts)[1], p_key) collate "C" as prefix,
            coalesce((p.parts)[2]::bigint, -1) as number
        from (select regexp_match(p_key, '^(.*:)(0|[1-9][0-9]{0,17})$') as parts) p
    ) n
    cross join lateral (
        select * from tidings.keys k
        where k.log = p_log and k.prefix = n.prefix and k.number <= n.number
        order by k.number desc limit 1
    ) k
    where n.number < k.number + k.count and k.at >= p_since
$$;

-- Appends the records of several publishes. `p_publishes` says how many records each has, null that each has one.
-- `p_more` holds arrays as text. Arrays that would hold nulls only may be null.
--
-- `status` 0: done; 1: the log has another life; 2: an append that was given up. Where `offsets` is null, every record
-- was appended, from `first` on; else it holds the offset of each record, negative if it was given before, 0 if its publish
-- was refused, and `refused` the numbers of such publishes, counted from 1.
create function tidings.append(
    p_log smallint, p_epoch text, p_writer bigint, p_sequence bigint, p_now bigint, p_key_since bigint,
    p_publishes integer[], p_sizes integer[], p_flags smallint[], p_retry bigint[], p_types text[],
    p_topics text[], p_more text[], p_keys text[], p_data bytea[],
    out status smallint, out first bigint, out offsets bigint[], out refused integer[],
    out refused_topics text[], out refused_offsets bigint[]
)
language plpgsql
as $$
declare
    v_count constant integer := coalesce(cardinality(p_topics), 0);
    v_sum bigint;
    v_last record;
begin
    -- Offsets become visible in their order because whoever gives some out holds this until they are.
    perform pg_catalog.pg_advisory_xact_lock(1953064033, p_log);
    select l.epoch = p_epoch as is_same, h.next, h.size_sum into v_last
    from tidings.logs l cross join lateral tidings.head(l.id) h where l.id = p_log;
    if v_last.is_same is distinct from true then
        status := 1;
        return;
    end if;
    first := v_last.next;
    v_sum := v_last.size_sum;
    if p_writer is not null then
        select a.* into v_last from tidings.appends a
        where a.log = p_log and a.writer = p_writer and a.sequence >= p_sequence
        order by a.sequence desc limit 1;
        if found then
            status := case when v_last.sequence = p_sequence then 0 else 2 end;
            first := v_last.first;
            offsets := v_last.offsets;
            refused := v_last.refused;
            refused_topics := v_last.refused_topics;
            refused_offsets := v_last.refused_offsets;
            return;
        end if;
    end if;
    status := 0;

    if p_flags is null or not 2 = any (select f & 2 from unnest(p_flags) f) then
        if not tidings.meets_finished(p_log, p_topics, p_more) then
            if p_keys is null then
                insert into tidings.events (
                    log, "offset", size_sum, appended_at, size, flags, retry_ms, event_type, topic, more_topics, data
                )
                select p_log, first + r.ord - 1, v_sum + sum(r.size) over (order by r.ord), p_now, r.size,
                    coalesce(r.flags, 0), r.retry, r.type, r.topic, r.more::text[], r.data
                from unnest(p_sizes, p_flags, p_retry, p_types, p_topics, p_more, p_data)
                    with ordinality r (size, flags, retry, type, topic, more, data, ord);
                if p_writer is not null and v_count > 0 then
                    insert into tidings.appends (log, writer, sequence, at, first)
                    values (p_log, p_writer, p_sequence, p_now, first);
                end if;
                return;
            end if;
            offsets := tidings.plan_keys(p_log, first, p_key_since, p_keys);
        end if;
    end if;
    if offsets is null then
        select p.offsets, p.refused, p.refused_topics, p.refused_offsets
        into offsets, refused, refused_topics, refused_offsets
        from tidings.plan(p_log, first, p_key_since, p_publishes, p_flags, p_topics, p_more, p_keys) p;
    end if;

    insert into tidings.events (
        log, "offset", size_sum, appended_at, size, flags, retry_ms, event_type, topic, more_topics, data
    )
    select p_log, r.o, v_sum + sum(r.size) over (order by r.o), p_now, r.size,
        coalesce(r.flags, 0), r.retry, r.type, r.topic, r.more::text[], r.data
    from unnest(offsets, p_sizes, p_flags, p_retry, p_types, p_topics, p_more, p_data)
        r (o, size, flags, retry, type, topic, more, data)
    where r.o > 0;
    if not found then
        -- Nothing to repeat: the answer would be the same.
        return;
    end if;
    if p_flags is not null then
        insert into tidings.finished (log, topic, "offset")
        select distinct p_log, t.topic, r.o
        from unnest(offsets, p_flags, p_topics, p_more) r (o, flags, topic, more),
            unnest(r.topic || r.more::text[]) t (topic)
        where r.o > 0 and r.flags & 2 > 0
        on conflict (log, topic) do update set "offset" = excluded."offset";
    end if;
    if p_keys is not null then
        insert into tidings.keys (log, prefix, number, count, "offset", at, place)
        select p_log, i.prefix, min(i.number), count(*), min(i.o), p_now,
            coalesce(p.last, 0) + row_number() over (order by min(i.o))
        from (
            select n.*, number - row_number() over (partition by prefix, number - o order by number) as island
            from (
                select r.o, coalesce((m.parts)[1], r.key) collate "C" as prefix,
                    coalesce((m.parts)[2]::bigint, -1) as number
                from unnest(offsets, p_keys) r (o, key),
                    regexp_match(r.key, '^(.*:)(0|[1-9][0-9]{0,17})$') m (parts)
                where r.o > 0 and r.key is not null
            ) n
        ) i,
        (select max(place) as last from tidings.keys where log = p_log) p
        group by i.prefix, i.number - i.o, i.island, p.last
        on conflict (log, prefix, number) do update set
            count = excluded.count, "offset" = excluded."offset", at = excluded.at, place = excluded.place;
    end if;
    if p_writer is not null then
        insert into tidings.appends (
            log, writer, sequence, at, first, offsets, refused, refused_topics, refused_offsets
        ) values (
            p_log, p_writer, p_sequence, p_now, first, offsets, refused, refused_topics, refused_offsets
        );
    end if;
end
$$;

-- Whether one of some topics had its last event.
create function tidings.meets_finished(p_log smallint, p_topics text[], p_more text[]) returns boolean
language plpgsql stable
as $$
begin
    if not exists (select from tidings.finished f where f.log = p_log) then
        return false;
    end if;
    if exists (
        select from (select distinct u.topic collate "C" as topic from unnest(p_topics) u (topic)) t
        join tidings.finished f on f.log = p_log and f.topic = t.topic
    ) then
        return true;
    end if;
    return p_more is not null and exists (
        select from unnest(p_more) r (more), unnest(r.more::text[]) t (topic)
        join tidings.finished f on f.log = p_log and f.topic = t.topic collate "C"
    );
end
$$;

-- The offsets of records none of which can be refused, as `append` answers them.
create function tidings.plan_keys(p_log smallint, p_next bigint, p_since bigint, p_keys text[]) returns bigint[]
language sql stable
as $$
    select array_agg(
        case
            when g.is_new then g.given
            when g.known is not null then -g.known
            else -g.given_first
        end order by g.ord
    )
    from (
        select a.*, min(a.given) filter (where a.is_new) over (partition by a.key) as given_first
        from (
            select n.*, p_next - 1 + count(*) filter (where n.is_new) over (order by n.ord) as given
            from (
                select r.ord, r.key, h.known,
                    r.key is null
                        or h.known is null and r.ord = min(r.ord) over (partition by r.key) as is_new
                from unnest(p_keys) with ordinality r (key, ord)
                left join lateral tidings.known_key(p_log, r.key, p_since) h on true
            ) n
        ) a
    ) g
$$;

-- What becomes of publishes of which some may be refused, as `append` answers it.
create function tidings.plan(
    p_log smallint, p_next bigint, p_since bigint, p_publishes integer[], p_flags smallint[],
    p_topics text[], p_more text[], p_keys text[],
    out offsets bigint[], out refused integer[], out refused_topics text[], out refused_offsets bigint[]
)
language plpgsql stable
as $$
declare
    v_count constant integer := cardinality(p_topics);
    v_publish integer := 0;
    v_from integer;
    v_to integer := 0;
    v_next bigint := p_next;
    v_flags smallint[] := coalesce(p_flags, array_fill(0::smallint, array[v_count]));
    v_more text[] := coalesce(p_more, array_fill(null::text, array[v_count]));
    v_keys text[] := coalesce(p_keys, array_fill(null::text, array[v_count]));
    v_known bigint[];
    -- The keys and last events of the publishes so far.
    v_planned jsonb := '{}';
    v_finals jsonb := '{}';
    v_own text[];
    v_topic text;
    v_offset bigint;
begin
    offsets := array_fill(0::bigint, array[v_count]);
    refused := '{}';
    refused_topics := '{}';
    refused_offsets := '{}';
    while v_to < v_count loop
        v_publish := v_publish + 1;
        v_from := v_to + 1;
        v_to := v_to + coalesce(p_publishes[v_publish], 1);
        v_own := '{}';
        v_offset := null;
        v_known := array_fill(null::bigint, array[v_to - v_from + 1]);
        <<records>>
        for i in v_from .. v_to loop
            if v_keys[i] is not null then
                v_known[i - v_from + 1] := coalesce(
                    (v_planned ->> v_keys[i])::bigint,
                    (select k.known from tidings.known_key(p_log, v_keys[i], p_since) k)
                );
                continue when v_known[i - v_from + 1] is not null;
            end if;
            foreach v_topic in array p_topics[i] || coalesce(v_more[i]::text[], '{}') loop
                v_offset := coalesce(
                    (v_finals ->> v_topic)::bigint,
                    (select f."offset" from tidings.finished f
                        where f.log = p_log and f.topic = v_topic collate "C"),
                    case when v_topic = any (v_own) then 0 end
                );
                exit records when v_offset is not null;
            end loop;
            if v_flags[i] & 2 > 0 then
                v_own := v_own || p_topics[i] || coalesce(v_more[i]::text[], '{}');
            end if;
        end loop;
        if v_offset is not null then
            refused := refused || v_publish;
            refused_topics := refused_topics || v_topic;
            refused_offsets := refused_offsets || v_offset;
            continue;
        end if;
        for i in v_from .. v_to loop
            v_offset := coalesce(v_known[i - v_from + 1], (v_planned ->> v_keys[i])::bigint);
            if v_offset is not null then
                offsets[i] := -v_offset;
                continue;
            end if;
            offsets[i] := v_next;
            if v_keys[i] is not null then
                v_planned := v_planned || jsonb_build_object(v_keys[i], v_next);
            end if;
            if v_flags[i] & 2 > 0 then
                foreach v_topic in array p_topics[i] || coalesce(v_more[i]::text[], '{}') loop
                    v_finals := v_finals || jsonb_build_object(v_topic, v_next);
                end loop;
            end if;
            v_next := v_next + 1;
        end loop;
    end loop;
end
$$;

-- Whether an append would be possible, as far as it can be known: raises the error that it would raise.
create function tidings.try_writing(p_log smallint, p_epoch text) returns boolean
language plpgsql
as $$
begin
    if not exists (select from tidings.logs l where l.id = p_log and l.epoch = p_epoch) then
        return false;
    end if;
    insert into tidings.events (log, "offset", size_sum, appended_at, size, flags, topic, data)
    select p_log, 0, 0, 0, 0, 0, 'none', decode(string_agg(md5(random()::text), ''), 'hex')
    from generate_series(1, 500);
    delete from tidings.events e where e.log = p_log and e."offset" = 0;
    return true;
end
$$;

-- Moves events of the outbox into their log, in the order of their ids, at most so many.
--
-- `status` as `append` says it, or 3: another node is at it.
create function tidings.move_outbox(
    p_log smallint, p_epoch text, p_now bigint, p_key_since bigint, p_events_max integer, p_bytes_max bigint,
    out status smallint, out moved integer, out refused_topics text[]
)
language plpgsql
as $$
declare
    v record;
    v_done record;
begin
    status := 0;
    moved := 0;
    if not exists (select from tidings.outbox o where o.log = p_log) then
        return;
    end if;
    if not pg_catalog.pg_try_advisory_xact_lock(1953064045, p_log) then
        status := 3;
        return;
    end if;
    if not exists (select from tidings.logs l where l.id = p_log and l.epoch = p_epoch) then
        status := 1;
        return;
    end if;
    with picked as (
        select b.id from (
            select o.id, sum(octet_length(o.data)) over (order by o.id) as bytes, row_number() over (order by o.id) as n
            from (
                select o.id, o.data from tidings.outbox o where o.log = p_log order by o.id limit p_events_max
            ) o
        ) b where b.n = 1 or b.bytes <= p_bytes_max
    ), gone as (
        delete from tidings.outbox o using picked where o.id = picked.id returning o.*
    )
    select
        count(*) as count,
        array_agg((128 + octet_length(g.data) + coalesce(octet_length(g.event_type), 0)
            + (select sum(octet_length(t.topic) + 192)
                from unnest(g.topic || g.more_topics) t (topic)))::integer order by g.id) as sizes,
        array_agg((g.is_private::integer + 2 * g.is_final::integer)::smallint order by g.id) as flags,
        array_agg(g.retry_ms order by g.id) as retry,
        array_agg(g.event_type order by g.id) as types,
        array_agg(g.topic order by g.id) as topics,
        case when bool_or(g.more_topics is not null) then array_agg(g.more_topics::text order by g.id) end as more,
        case when bool_or(g.key is not null) then array_agg(g.key order by g.id) end as keys,
        array_agg(g.data order by g.id) as data
    into v from gone g;
    if v.count = 0 then
        return;
    end if;
    select * into v_done from tidings.append(
        p_log, p_epoch, null, null, p_now, p_key_since,
        null, v.sizes, v.flags, v.retry, v.types, v.topics, v.more, v.keys, v.data
    );
    if v_done.status <> 0 then
        raise exception 'the log has another life' using errcode = 'serialization_failure';
    end if;
    moved := v.count;
    refused_topics := v_done.refused_topics;
end
$$;

-- Lets go of some of what is too much or too old; `more` says whether to call again.
create function tidings.trim(
    p_log smallint, p_epoch text, p_events_max bigint, p_bytes_max bigint, p_before bigint,
    p_key_since bigint, p_keys_max bigint,
    out status smallint, out more boolean, out oldest bigint, out next bigint
)
language plpgsql
as $$
declare
    c_step constant integer := 5000;
    c_step_bytes constant bigint := 33554432;
    v record;
    v_to bigint;
    v_gone record;
begin
    status := 0;
    more := false;
    select l.epoch = p_epoch as is_same, k.oldest, h.next,
        h.next - k.oldest - k.hole_events > p_events_max
            or h.size_sum - k.oldest_sum - k.hole_bytes > p_bytes_max
            or coalesce(e.appended_at < p_before, false) as is_due
    into v
    from tidings.logs l
    join tidings.kept k on k.log = l.id
    cross join lateral tidings.head(l.id) h
    left join lateral (
        select e.appended_at from tidings.events e
        where e.log = p_log and e."offset" >= k.oldest order by e."offset" limit 1
    ) e on true
    where l.id = p_log;
    if v.is_same is distinct from true then
        status := 1;
        return;
    end if;
    oldest := v.oldest;
    next := v.next;
    if v.is_due then
        select k.* into v from tidings.kept k where k.log = p_log for update;
        -- Another node may have done it meanwhile; what it left is seen from here on.
        select
            greatest(
                max(s."offset") filter (
                    where s.n <= h.next - v.oldest - v.hole_events - p_events_max
                    or s.upto - s.size < h.size_sum - v.oldest_sum - v.hole_bytes - p_bytes_max
                        and s."offset" < h.next - 1
                ),
                -- Events are as old as their neighbours, give or take the clocks of nodes.
                coalesce(min(s."offset") filter (where s.appended_at >= p_before) - 1, max(s."offset"))
            )
        into v_to
        from (
            select w.*, row_number() over (order by w."offset") as n,
                sum(w.size) over (order by w."offset") as upto
            from (
                select e."offset", e.size, e.appended_at from tidings.events e
                where e.log = p_log and e."offset" >= v.oldest order by e."offset" limit c_step
            ) w
        ) s
        cross join lateral tidings.head(p_log) h
        where s.n = 1 or s.upto <= c_step_bytes;
        if v_to >= v.oldest then
            with gone as (
                delete from tidings.events e
                where e.log = p_log and e."offset" between v.oldest and v_to
                returning e."offset", e.size, e.size_sum
            )
            select max(g."offset") as last, max(g.size_sum) as size_sum,
                count(*) as events, sum(g.size) as bytes
            into v_gone from gone g;
            if v_gone.last is not null then
                more := true;
                oldest := v_gone.last + 1;
                update tidings.kept k set
                    oldest = v_gone.last + 1,
                    oldest_sum = v_gone.size_sum,
                    hole_events = k.hole_events - (v_gone.last + 1 - k.oldest - v_gone.events),
                    hole_bytes = k.hole_bytes - (v_gone.size_sum - k.oldest_sum - v_gone.bytes),
                    floor_next = greatest(k.floor_next, v_gone.last + 1),
                    floor_sum = greatest(k.floor_sum, v_gone.size_sum)
                where k.log = p_log;
                delete from tidings.finished f where f.log = p_log and f."offset" <= v_gone.last;
                delete from tidings.dropped d where d.log = p_log and d."offset" <= v_gone.last;
            end if;
        end if;
    end if;
    delete from tidings.keys k where k.log = p_log and k.place in (
        select o.place from (
            select o.place, o.at from tidings.keys o where o.log = p_log order by o.place limit c_step
        ) o
        where o.at < p_key_since
            or o.place <= (select max(n.place) from tidings.keys n where n.log = p_log) - p_keys_max
    );
    more := more or found;
end
$$;

-- Lets go of events from the middle of the log, and remembers what topics have lost by that.
create function tidings.drop_events(
    p_log smallint, p_epoch text, p_offsets bigint[], p_topics text[], p_highest bigint[]
) returns boolean
language plpgsql
as $$
declare
    v_gone record;
begin
    if not exists (select from tidings.logs l where l.id = p_log and l.epoch = p_epoch) then
        return false;
    end if;
    perform from tidings.kept k where k.log = p_log for update;
    with gone as (
        delete from tidings.events e
        where e.log = p_log and e."offset" = any (p_offsets)
        returning e."offset", e.size, e.size_sum
    )
    select max(g."offset") as last, max(g.size_sum) as size_sum, count(*) as events, sum(g.size) as bytes
    into v_gone from gone g;
    if v_gone.last is not null then
        update tidings.kept k set
            hole_events = k.hole_events + v_gone.events,
            hole_bytes = k.hole_bytes + v_gone.bytes,
            floor_next = greatest(k.floor_next, v_gone.last + 1),
            floor_sum = greatest(k.floor_sum, v_gone.size_sum)
        where k.log = p_log;
    end if;
    delete from tidings.finished f where f.log = p_log and f."offset" = any (p_offsets);
    insert into tidings.dropped (log, topic, "offset")
    select p_log, t.topic, max(t.highest)
    from unnest(p_topics, p_highest) t (topic, highest), tidings.kept k
    where k.log = p_log and t.highest >= k.oldest
    group by t.topic
    on conflict (log, topic) do update set "offset" = excluded."offset"
        where tidings.dropped."offset" < excluded."offset";
    return true;
end
$$;

-- Publishes an event inside the transaction of an application: it appears once that has committed, and never if it
-- is rolled back.
create function tidings.publish(
    topics text[], type text, data text, key text default null, private boolean default false,
    final boolean default false, log text default 'tidings'
) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_log record;
begin
    select l.id, l.outbox_notify into v_log from tidings.logs l where l.name = publish.log;
    if not found then
        raise exception 'there is no log %', quote_literal(publish.log)
            using hint = 'The name is the one in the URL of the hub, and the hub has to have been started once.';
    end if;
    if not (select coalesce(bool_and(tidings.is_topic(t.topic)), false) from unnest(topics) t (topic)) then
        raise exception 'an event has topics of 1 to 1024 bytes without control characters'
            using errcode = 'check_violation';
    end if;
    insert into tidings.outbox (log, topic, more_topics, event_type, key, is_private, is_final, data)
    values (
        v_log.id, topics[1], nullif(topics[2:], '{}'), type, key, coalesce(private, false),
        coalesce(final, false), convert_to(coalesce(data, ''), 'UTF8')
    );
    if v_log.outbox_notify then
        perform pg_notify('tidings_outbox_' || publish.log, '');
    end if;
end
$$;

create function tidings.publish(
    topic text, type text, data text, key text default null, private boolean default false,
    final boolean default false, log text default 'tidings'
) returns void
language sql
as $$ select tidings.publish(array[topic], type, data, key, private, final, log) $$;

create function tidings.publish(
    topic text, type text, data jsonb, key text default null, private boolean default false,
    final boolean default false, log text default 'tidings'
) returns void
language sql
as $$ select tidings.publish(array[topic], type, data::text, key, private, final, log) $$;

create function tidings.publish(
    topic text, type text, data json, key text default null, private boolean default false,
    final boolean default false, log text default 'tidings'
) returns void
language sql
as $$ select tidings.publish(array[topic], type, data::text, key, private, final, log) $$;

-- Lets a role publish, and nothing else.
create function tidings.allow_publishing(role regrole) returns void
language plpgsql
as $$
declare
    v_function regprocedure;
begin
    execute format('grant usage on schema tidings to %s', role);
    for v_function in
        select p.oid from pg_catalog.pg_proc p
        where p.pronamespace in ('tidings'::regnamespace, to_regnamespace('public'))
            and p.proname in ('publish', 'tidings_publish')
            and pg_catalog.pg_get_userbyid(p.proowner) = current_user
    loop
        execute format('grant execute on function %s to %s', v_function, role);
    end loop;
end
$$;

revoke execute on all functions in schema tidings from public;

-- The same where it is found without naming a schema, if this role may put something there.
do $$
begin
    if to_regnamespace('public') is null or not has_schema_privilege('public', 'create') then
        return;
    end if;
    if exists (
        select from pg_proc p where p.pronamespace = 'public'::regnamespace and p.proname = 'tidings_publish'
    ) then
        return;
    end if;
    create function public.tidings_publish(
        topic text, type text, data text, key text default null, private boolean default false,
        final boolean default false, log text default 'tidings'
    ) returns void
    language sql
    as $f$ select tidings.publish(array[topic], type, data, key, private, final, log) $f$;
    create function public.tidings_publish(
        topic text, type text, data jsonb, key text default null, private boolean default false,
        final boolean default false, log text default 'tidings'
    ) returns void
    language sql
    as $f$ select tidings.publish(array[topic], type, data::text, key, private, final, log) $f$;
    create function public.tidings_publish(
        topic text, type text, data json, key text default null, private boolean default false,
        final boolean default false, log text default 'tidings'
    ) returns void
    language sql
    as $f$ select tidings.publish(array[topic], type, data::text, key, private, final, log) $f$;
    revoke execute on function
        public.tidings_publish(text, text, text, text, boolean, boolean, text),
        public.tidings_publish(text, text, jsonb, text, boolean, boolean, text),
        public.tidings_publish(text, text, json, text, boolean, boolean, text)
        from public;
end
$$;
