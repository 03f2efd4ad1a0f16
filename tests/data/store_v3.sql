-- A store as schema version 3 left it: a job that runs, an array of two that wait, a drain, a usage record.
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
INSERT INTO "events" VALUES(1,'1',1.0,'submitted','pending','{"by":"wang"}');
INSERT INTO "events" VALUES(2,'2.0',2.0,'submitted','pending','{"by":"li"}');
INSERT INTO "events" VALUES(3,'2.1',2.0,'submitted','pending','{"by":"li"}');
INSERT INTO "events" VALUES(4,'1',2.5,'placed','running','{"attempt":1,"nodes":{"0":"n1"},"devices":{"0":[0]},"simulated":{"0":false}}');
INSERT INTO "events" VALUES(5,'1',3.0,'started','running','{"attempt":1,"nodes":{"0":"n1"}}');
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
	preemptions INTEGER DEFAULT 0 NOT NULL, 
	workers_wanted INTEGER, 
	PRIMARY KEY (id), 
	UNIQUE (seq)
);
INSERT INTO "jobs" VALUES('1',1,'studio','train','training','running',1,'{"name":"train","tenant":"studio","kind":"training","priority_class":"normal","priority":40,"command":["python","train.py"],"model":null,"workers_min":1,"workers_max":1,"alternatives":[{"vendor":null,"model":"H100 SXM","devices":1,"share_milli":0,"cpus_milli":1000,"memory_bytes":0,"simulated":false,"node":null,"site":null,"mig_profile":null,"node_labels":[],"device_labels":[]}],"time_limit_s":3600.0,"retries":0,"checkpoint":{"dir":"/data/ck","grace_s":30.0},"slo_p99_ms":null,"env":[],"working_dir":null,"array_size":0,"after":[],"deadline_after_s":null,"deadline_at_s":null,"constraints":{"within":null,"spread":null,"one_per":null,"apart_from":[]},"reservation":null}','{"workers":[{"placement":{"worker":0,"node":"n1","devices":[0],"share_milli":0,"cpus_milli":1000,"memory_bytes":0,"alternative":0},"attempt":1,"phase":"running","address":null,"started_s":3.0,"exit_code":null,"start_heard_s":3.25}],"since_s":3.0,"kind":"running"}','wang',1.0,NULL,1,0,NULL,NULL,3.0,0,NULL);
INSERT INTO "jobs" VALUES('2.0',2,'studio','frames','batch','pending',1,'{"name":"frames","tenant":"studio","kind":"batch","priority_class":"normal","priority":40,"command":["python","train.py"],"model":null,"workers_min":1,"workers_max":1,"alternatives":[{"vendor":null,"model":"H100 SXM","devices":1,"share_milli":0,"cpus_milli":1000,"memory_bytes":0,"simulated":false,"node":null,"site":null,"mig_profile":null,"node_labels":[],"device_labels":[]}],"time_limit_s":3600.0,"retries":0,"checkpoint":null,"slo_p99_ms":null,"env":[],"working_dir":null,"array_size":2,"after":[],"deadline_after_s":null,"deadline_at_s":null,"constraints":{"within":null,"spread":null,"one_per":null,"apart_from":[]},"reservation":null}','{"reason":{"kind":"not_considered"},"since_s":2.0,"not_before_s":0.0,"kind":"pending"}','li',2.0,NULL,0,0,NULL,0,NULL,0,NULL);
INSERT INTO "jobs" VALUES('2.1',3,'studio','frames','batch','pending',1,'{"name":"frames","tenant":"studio","kind":"batch","priority_class":"normal","priority":40,"command":["python","train.py"],"model":null,"workers_min":1,"workers_max":1,"alternatives":[{"vendor":null,"model":"H100 SXM","devices":1,"share_milli":0,"cpus_milli":1000,"memory_bytes":0,"simulated":false,"node":null,"site":null,"mig_profile":null,"node_labels":[],"device_labels":[]}],"time_limit_s":3600.0,"retries":0,"checkpoint":null,"slo_p99_ms":null,"env":[],"working_dir":null,"array_size":2,"after":[],"deadline_after_s":null,"deadline_at_s":null,"constraints":{"within":null,"spread":null,"one_per":null,"apart_from":[]},"reservation":null}','{"reason":{"kind":"not_considered"},"since_s":2.0,"not_before_s":0.0,"kind":"pending"}','li',2.0,NULL,0,0,NULL,1,NULL,0,NULL);
CREATE TABLE meta (
	id INTEGER NOT NULL, 
	schema_version INTEGER NOT NULL, 
	epoch INTEGER NOT NULL, 
	next_number INTEGER NOT NULL, 
	next_seq INTEGER NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "meta" VALUES(1,3,2,3,4);
CREATE TABLE reservations (
	name VARCHAR(63) NOT NULL, 
	nodes_json TEXT NOT NULL, 
	start_s FLOAT NOT NULL, 
	end_s FLOAT NOT NULL, 
	every_s FLOAT, 
	reason TEXT NOT NULL, 
	"by" TEXT NOT NULL, 
	made_s FLOAT NOT NULL, 
	tenants_json TEXT NOT NULL, 
	PRIMARY KEY (name)
);
CREATE TABLE results (
	job_id VARCHAR(64) NOT NULL, 
	attempt INTEGER NOT NULL, 
	worker INTEGER NOT NULL, 
	result_json TEXT NOT NULL, 
	PRIMARY KEY (job_id, attempt, worker), 
	FOREIGN KEY(job_id) REFERENCES jobs (id)
);
CREATE TABLE usage (
	account VARCHAR(255) NOT NULL, 
	average FLOAT NOT NULL, 
	at_s FLOAT NOT NULL, 
	PRIMARY KEY (account)
);
CREATE TABLE usage_records (
	job_id VARCHAR(64) NOT NULL, 
	attempt INTEGER NOT NULL, 
	worker INTEGER NOT NULL, 
	tenant TEXT NOT NULL, 
	priority_class TEXT NOT NULL, 
	kind VARCHAR(32) NOT NULL, 
	node VARCHAR(255) NOT NULL, 
	devices_json TEXT NOT NULL, 
	share_milli INTEGER NOT NULL, 
	cpus_milli INTEGER NOT NULL, 
	memory_bytes BIGINT NOT NULL, 
	simulated BOOLEAN NOT NULL, 
	from_s FLOAT NOT NULL, 
	to_s FLOAT NOT NULL, 
	seen BOOLEAN NOT NULL, 
	cause TEXT NOT NULL, 
	PRIMARY KEY (job_id, attempt, worker), 
	FOREIGN KEY(job_id) REFERENCES jobs (id)
);
INSERT INTO "usage_records" VALUES('1',0,0,'studio','normal','training','n0','[1]',0,1000,0,0,1.5,2.0,1,'exit code');
CREATE INDEX jobs_live ON jobs (live, seq);
CREATE INDEX jobs_tenant ON jobs (tenant, seq);
CREATE INDEX jobs_state ON jobs (state, seq);
CREATE INDEX events_job ON events (job_id, seq);
CREATE INDEX usage_records_end ON usage_records (to_s);
CREATE INDEX usage_records_tenant ON usage_records (tenant, to_s);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('events',5);
COMMIT;
