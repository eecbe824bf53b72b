-- Meters are flushed less often than counters (they cost as much a row and nobody waits for them), so they have a
-- watermark of their own; what lies above it is read again from the ledger. Meters are looked up by number: a stream
-- opens without reading them all.
ALTER TABLE stream_watermark DROP CONSTRAINT stream_watermark_kind_check;
ALTER TABLE stream_watermark ADD CONSTRAINT stream_watermark_kind_check CHECK (kind IN ('counter', 'meter', 'series'));
DROP INDEX meter_node;
CREATE INDEX meter_node ON meter (node_id, meter);
