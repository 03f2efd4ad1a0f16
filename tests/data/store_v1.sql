-- A store as schema version 1 left it: one job that waits, one drained node.
BEGIN TRANSACTION;
CREATE TABLE drains (
	node VARCHAR(255) NOT NULL, 
	reason TEXT NOT NULL, 
	"by" TEXT NOT NULL, 
	at_s FLOAT NOT NULL, 
	PRIMARY KEY (node)
);
INSERT INTO "drains" VALUES('n2','fan','wang',3.0);
CREATE TABLE events (
	seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	job_id VARCHAR(64) NOT NULL, 
	at_s FLOAT NOT NULL, 
	event VARCHAR(64) NOT NULL, 
	state VARCHAR(32) NOT NULL, 
	detail_json TEXT NOT NULL, 
	FOREIGN KEY(job_id) REFERENCES jobs (id)
);
INSERT INTO "events" VALUES(1,'1',1.0,'submitted','pending','{"by":"x"}');
INSERT INTO "events" VALUES(2,'1',2.0,'placed','starting','{"attempt":1,"nodes":{"0":"n1"}}');
CREATE TABLE jobs (
	id VARCHAR(64) NOT NULL, 
	seq INTEGER NOT NULL, 
	tenant TEXT NOT NULL, 
	name TEXT NOT NULL, 
	kind VARCHAR(32) NOT NULL, 
	state VARCHAR(32) NOT NULL, 
	live BOOLEAN NOT NULL, 
	spec_json TEXT NOT NULL, 
	state_json TEXT NOT NULL, 
	submitted_by TEXT NOT NULL, 
	submitted_s FLOAT NOT NULL, 
	ended_s FLOAT, 
	attempts INTEGER NOT NULL, 
	failures INTEGER NOT NULL, 
	resume_from TEXT, 
	array_index INTEGER, 
	first_started_s FLOAT, 
	PRIMARY KEY (id), 
	UNIQUE (seq)
);
INSERT INTO "jobs" VALUES('1',1,'studio','train','training','pending',1,'{"name":"train","tenant":"studio","kind":"training","priority_class":"normal","priority":40,"command":["true"],"model":null,"workers_min":1,"workers_max":2,"alternatives":[{"vendor":null,"model":"H100 SXM","devices":1,"share_milli":0,"cpus_milli":1000,"memory_bytes":0,"simulated":false,"node":null,"site":null}],"time_limit_s":60.0,"retries":0,"checkpoint":null,"slo_p99_ms":null,"env":[],"working_dir":null,"array_size":0,"after":[]}','{"reason":{"kind":"not_considered"},"since_s":1.0,"not_before_s":0.0,"kind":"pending"}','x',1.0,NULL,0,0,NULL,NULL,NULL);
CREATE TABLE meta (
	id INTEGER NOT NULL, 
	schema_version INTEGER NOT NULL, 
	epoch INTEGER NOT NULL, 
	next_number INTEGER NOT NULL, 
	next_seq INTEGER NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "meta" VALUES(1,1,4,2,2);
CREATE TABLE results (
	job_id VARCHAR(64) NOT NULL, 
	attempt INTEGER NOT NULL, 
	worker INTEGER NOT NULL, 
	result_json TEXT NOT NULL, 
	PRIMARY KEY (job_id, attempt, worker), 
	FOREIGN KEY(job_id) REFERENCES jobs (id)
);
CREATE INDEX jobs_tenant ON jobs (tenant, seq);
CREATE INDEX jobs_state ON jobs (state, seq);
CREATE INDEX jobs_live ON jobs (live, seq);
CREATE INDEX events_job ON events (job_id, seq);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('events',2);
COMMIT;
