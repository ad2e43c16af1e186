-- The ledger's tables. Times are seconds since 1970 (REAL); flags are 0 or 1; states are the words of gateway/records.py.
-- What can be computed is not stored, but for the lanes' running totals, which a test holds equal to a recount.

-- One row for each start of the gateway. A boot is alive while ended_at is null and alive_until lies ahead.
CREATE TABLE boots (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    started_at REAL NOT NULL,
    alive_until REAL NOT NULL,
    ended_at REAL
);

-- What may share a batch, with totals of the requests that may be batched now (queued and due).
CREATE TABLE lanes (
    id INTEGER PRIMARY KEY,
    provider TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    model TEXT NOT NULL,
    due_count INTEGER NOT NULL DEFAULT 0,
    due_size INTEGER NOT NULL DEFAULT 0,
    due_tokens INTEGER NOT NULL DEFAULT 0,
    due_fresh INTEGER NOT NULL DEFAULT 0,
    last_arrival_at REAL NOT NULL DEFAULT 0,
    target_tokens INTEGER,
    token_factor REAL NOT NULL DEFAULT 1,
    parked_reason TEXT,
    retry_at REAL NOT NULL DEFAULT 0,
    park_steps INTEGER NOT NULL DEFAULT 0,
    UNIQUE (provider, endpoint, model)
);

-- One row for each request; a row with an ordinal is a slot too. Bodies and results live elsewhere: states change often.
-- due: 1 may be batched now, 0 not yet or not any more, 2 waits for its children. A child has its parent's seq.
CREATE TABLE requests (
    seq INTEGER PRIMARY KEY,
    token TEXT NOT NULL,
    client TEXT NOT NULL,
    job TEXT NOT NULL,
    name TEXT,
    named INTEGER NOT NULL,
    detached INTEGER NOT NULL,
    lane INTEGER NOT NULL,
    state TEXT NOT NULL,
    due INTEGER NOT NULL,
    fresh INTEGER NOT NULL,
    queued_at REAL NOT NULL,
    ready_at REAL NOT NULL,
    attempts INTEGER NOT NULL,
    batch INTEGER,
    n INTEGER,
    cancel_at REAL,
    ended_at REAL,
    permanent INTEGER NOT NULL,
    trouble TEXT,
    size INTEGER NOT NULL,
    tokens INTEGER NOT NULL,
    ordinal INTEGER,
    held_by INTEGER,
    left_at REAL,
    deliveries INTEGER NOT NULL,
    first_delivered_at REAL,
    last_delivered_at REAL,
    owed_until REAL,
    no_cache INTEGER NOT NULL,
    no_store INTEGER NOT NULL,
    result INTEGER,
    fingerprint BLOB NOT NULL,
    body_hash BLOB,
    parent INTEGER
);

-- What a request asks, as it is sent, and what its caller wrote on it.
CREATE TABLE payloads (
    seq INTEGER PRIMARY KEY,
    body BLOB NOT NULL,
    metadata BLOB
);

-- How requests ended, in the order in which they did: results come in any order, and writing them in the order of their
-- requests would write every page many times. A row that requests.result names while requests.ended_at is null is how a
-- request will end if its wished cancel comes true.
CREATE TABLE results (
    id INTEGER PRIMARY KEY,
    status INTEGER NOT NULL,
    code TEXT,
    cost_usd REAL,
    saved_usd REAL,
    body BLOB NOT NULL
);

-- Requests that are being asked one by one, each committed before it is asked, and by which boot. A row whose boot is over
-- says that its request may have been asked already.
CREATE TABLE completions (
    seq INTEGER PRIMARY KEY,
    boot INTEGER NOT NULL,
    claimed_at REAL NOT NULL
);

CREATE TABLE batches (
    id INTEGER PRIMARY KEY,
    marker TEXT NOT NULL UNIQUE,
    lane INTEGER NOT NULL,
    account TEXT NOT NULL,
    base_url TEXT NOT NULL,
    state TEXT NOT NULL,
    epoch INTEGER NOT NULL DEFAULT 0,
    owner INTEGER,
    count INTEGER NOT NULL,
    size INTEGER NOT NULL,
    tokens INTEGER NOT NULL,
    sealed_at REAL NOT NULL,
    file_id TEXT,
    remote_id TEXT,
    remote_state TEXT,
    remote_notes TEXT NOT NULL DEFAULT '{}',
    submissions INTEGER NOT NULL DEFAULT 0,
    first_sent_at REAL,
    last_sent_at REAL,
    submitted_at REAL,
    remote_created_at REAL,
    ended_at REAL,
    collected_at REAL,
    total INTEGER,
    done INTEGER,
    ambiguous INTEGER NOT NULL DEFAULT 0,
    fetches INTEGER NOT NULL DEFAULT 0,
    fetched INTEGER NOT NULL DEFAULT 0,
    troubles INTEGER NOT NULL DEFAULT 0,
    parked_reason TEXT,
    retry_at REAL NOT NULL DEFAULT 0,
    cancel_at REAL,
    discarded INTEGER NOT NULL DEFAULT 0
);

-- One row for each settled line: the key makes settling it again harmless, and its cost booked once.
-- state: how its request ended by it; null: it went back to its lane.
CREATE TABLE lines (
    id INTEGER PRIMARY KEY,
    batch INTEGER NOT NULL,
    n INTEGER NOT NULL,
    seq INTEGER,
    state TEXT,
    status INTEGER NOT NULL,
    trouble TEXT,
    input_tokens INTEGER,
    cached_tokens INTEGER,
    output_tokens INTEGER,
    cost_usd REAL,
    saved_usd REAL,
    billed INTEGER NOT NULL,
    wasted INTEGER NOT NULL,
    UNIQUE (batch, n)
);

-- Which sample a run was given, and whether its callers still wait (holders of held_by) or got it.
CREATE TABLE runs (
    client TEXT NOT NULL,
    run TEXT NOT NULL,
    fingerprint BLOB NOT NULL,
    ordinal INTEGER NOT NULL,
    held_by INTEGER,
    holders INTEGER NOT NULL,
    delivered INTEGER NOT NULL,
    given_at REAL NOT NULL,
    PRIMARY KEY (client, run, fingerprint, ordinal)
) WITHOUT ROWID;

-- Totals of lines that retention has removed, and of what was asked one by one, without a discount.
CREATE TABLE bills (
    provider TEXT NOT NULL,
    model TEXT NOT NULL,
    requests INTEGER NOT NULL,
    lines INTEGER NOT NULL,
    cost_usd REAL NOT NULL,
    saved_usd REAL NOT NULL,
    wasted_usd REAL NOT NULL,
    wasted_lines INTEGER NOT NULL,
    unpriced_lines INTEGER NOT NULL,
    undiscounted_lines INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (provider, model)
) WITHOUT ROWID;

-- The samples of a fingerprint in order; no ordinal twice.
CREATE UNIQUE INDEX requests_slots ON requests (fingerprint, ordinal) WHERE ordinal IS NOT NULL;
-- The slot the general rule takes, without reading its held sisters. A new slot is held, so it costs nothing yet.
CREATE INDEX requests_free ON requests (fingerprint, deliveries, (ended_at IS NULL), ordinal)
    WHERE ordinal IS NOT NULL AND held_by IS NULL;
-- Failures owed to whoever asks.
CREATE INDEX requests_owed ON requests (fingerprint, owed_until) WHERE owed_until IS NOT NULL;
-- Holds of a boot, to be turned into left_at when it is over.
CREATE INDEX requests_held ON requests (held_by) WHERE held_by IS NOT NULL;
-- Pending requests whose last caller left.
CREATE INDEX requests_left ON requests (left_at) WHERE left_at IS NOT NULL AND state = 'queued';
CREATE UNIQUE INDEX requests_names ON requests (name, job, client) WHERE named = 1;
CREATE INDEX requests_detached ON requests (fingerprint, queued_at) WHERE detached = 1;
-- A lane's window, oldest first.
CREATE INDEX requests_window ON requests (lane, ready_at, seq) WHERE state = 'queued' AND due = 1;
-- Returned lines that wait for their time.
CREATE INDEX requests_returned ON requests (ready_at, state, due) WHERE state = 'queued' AND due = 0;
-- Queued requests that were in a batch before: their place in the window does not tell their age.
CREATE INDEX requests_again ON requests (queued_at) WHERE state = 'queued' AND fresh = 0;
-- Unsettled members of a batch.
CREATE INDEX requests_members ON requests (batch, n, state) WHERE state = 'batched';
-- (What a partial index implies is repeated in its key where rows are counted, so that counting reads no row.)
-- The children of a family, and those that have ended and whose parent may end by it.
CREATE INDEX requests_children ON requests (parent, ended_at) WHERE parent IS NOT NULL;
CREATE INDEX requests_told ON requests (parent, state) WHERE parent IS NOT NULL AND ended_at IS NOT NULL;
-- What retention looks through, and how many ended how.
CREATE INDEX requests_ended ON requests (ended_at, state) WHERE ended_at IS NOT NULL;
CREATE INDEX batches_live ON batches (state, retry_at) WHERE state NOT IN ('collected', 'dissolved');
CREATE INDEX batches_done ON batches (discarded, retry_at) WHERE state IN ('collected', 'dissolved');
CREATE INDEX batches_lane ON batches (lane, collected_at);
CREATE INDEX runs_given ON runs (given_at);
CREATE INDEX runs_held ON runs (held_by) WHERE held_by IS NOT NULL;
-- What a run was given and did not get: the next call of the run takes it.
CREATE INDEX runs_free ON runs (client, run, fingerprint, ordinal) WHERE held_by IS NULL AND delivered = 0;
