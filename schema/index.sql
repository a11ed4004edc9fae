-- The index of a store: a cache. Every row can be made again from packs/ and runs/, and no row is believed without a
-- look at the pack or journal that it points to. `runsnap reindex` builds it anew.
--
-- PRAGMA application_id = 0x52534e50 ("RSNP"), PRAGMA user_version = 1.

-- One row: which store this is an index of, and the generation of its packs when it was last brought up to date.
CREATE TABLE store (
    id         TEXT    NOT NULL,
    generation INTEGER NOT NULL
);

-- The packs whose objects are in `objects`.
CREATE TABLE packs (
    number INTEGER PRIMARY KEY,
    name   TEXT    NOT NULL,
    bytes  INTEGER NOT NULL
);

-- Where an object is: the first eight bytes of its id as a signed big-endian number, the pack, and its place in the
-- pack's table. Two ids can share a key; the pack's table has the ids in full.
CREATE TABLE objects (
    key     INTEGER NOT NULL,
    pack    INTEGER NOT NULL,
    ordinal INTEGER NOT NULL,
    PRIMARY KEY (key, pack, ordinal)
) WITHOUT ROWID;

-- The journals whose records are in `runs`, and how many of their bytes have been read. Segments stand here as well, so
-- that their newest runs are looked for once; their runs have no rows. Journals and segments that have been merged into
-- another segment leave.
CREATE TABLE journals (
    number INTEGER PRIMARY KEY,
    name   TEXT    NOT NULL,
    bytes  INTEGER NOT NULL
);

-- Where the start record of a run is. The key is the first eight bytes of BLAKE3 over the run's name, or over the text
-- of its id where it has no name.
CREATE TABLE runs (
    key     INTEGER NOT NULL,
    journal INTEGER NOT NULL,
    offset  INTEGER NOT NULL,
    run     BLOB    NOT NULL,
    name    TEXT,
    PRIMARY KEY (key, journal, offset)
) WITHOUT ROWID;

-- The newest run of each project: the version that the next capture is stored as a difference to.
CREATE TABLE projects (
    path     TEXT PRIMARY KEY,
    run      BLOB NOT NULL,
    snapshot BLOB NOT NULL
) WITHOUT ROWID;
