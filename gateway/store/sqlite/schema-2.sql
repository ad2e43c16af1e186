-- Step 2. Since when a batch is parked: reasons come and go, and an operator asks how long it has been standing there.

-- Of a batch with a parked_reason; null: it was parked before this step was done.
ALTER TABLE batches ADD COLUMN parked_since REAL;
