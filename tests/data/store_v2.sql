-- A store as schema version 2 left it: a gang that runs, one job that waits, a result, a reservation, usage.
BEGIN TRANSACTION;
CREATE TABLE drains (
	node VARCHAR(255) NOT NULL, 
	reason TEXT NOT NULL, 
	"by" TEXT NOT NULL, 
	at_s FLOAT NOT NULL, 
	PRIMARY KEY (node)
);
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
INSERT INTO "events" VALUES(2,'2',1.0,'submitted','pending','{"by":"x"}');
INSERT INTO "events" VALUES(3,'1',2.0,'placed','starting','{"attempt":1,"nodes":{"0":"n1","1":"n2"}}');
INSERT INTO "events" VALUES(4,'1',3.0,'started','running','{}');
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
INSERT INTO "jobs" VALUES('1',1,'studio','train','training','running',1,'{"name":"train","tenant":"studio","kind":"training","priority_class":"normal","priority":40,"command":["true"],"model":null,"workers_min":2,"workers_max":2,"alternatives":[{"vendor":null,"model":null,"devices":1,"share_milli":0,"cpus_milli":1000,"memory_bytes":0,"simulated":false,"node":null,"site":null,"mig_profile":null,"node_labels":[],"device_labels":[]}],"time_limit_s":3600.0,"retries":0,"checkpoint":null,"slo_p99_ms":null,"env":[],"working_dir":null,"array_size":0,"after":[],"deadline_after_s":null,"deadline_at_s":null,"constraints":{"within":null,"spread":null,"one_per":null,"apart_from":[]},"reservation":null}','{"workers":[{"placement":{"worker":0,"node":"n1","devices":[0,3],"share_milli":0,"cpus_milli":1000,"memory_bytes":17179869184,"alternative":0},"attempt":1,"phase":"running","address":null,"started_s":3.0,"exit_code":null},{"placement":{"worker":1,"node":"n2","devices":[0,3],"share_milli":0,"cpus_milli":1000,"memory_bytes":17179869184,"alternative":0},"attempt":1,"phase":"running","address":null,"started_s":3.0,"exit_code":null}],"since_s":3.0,"kind":"running"}','x',1.0,NULL,1,0,NULL,NULL,3.0,1,NULL);
INSERT INTO "jobs" VALUES('2',2,'studio','waits','training','pending',1,'{"name":"waits","tenant":"studio","kind":"training","priority_class":"normal","priority":40,"command":["true"],"model":null,"workers_min":1,"workers_max":1,"alternatives":[{"vendor":null,"model":null,"devices":1,"share_milli":0,"cpus_milli":1000,"memory_bytes":0,"simulated":false,"node":null,"site":null,"mig_profile":null,"node_labels":[],"device_labels":[]}],"time_limit_s":3600.0,"retries":0,"checkpoint":null,"slo_p99_ms":null,"env":[],"working_dir":null,"array_size":0,"after":[],"deadline_after_s":null,"deadline_at_s":null,"constraints":{"within":null,"spread":null,"one_per":null,"apart_from":[]},"reservation":null}','{"reason":{"kind":"not_considered"},"since_s":1.0,"not_before_s":0.0,"kind":"pending"}','x',1.0,NULL,0,0,NULL,NULL,NULL,0,NULL);
CREATE TABLE meta (
	id INTEGER NOT NULL, 
	schema_version INTEGER NOT NULL, 
	epoch INTEGER NOT NULL, 
	next_number INTEGER NOT NULL, 
	next_seq INTEGER NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "meta" VALUES(1,2,6,3,3);
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
INSERT INTO "reservations" VALUES('night','["n1"]',10.0,20.0,86400.0,'bench','wang',1.0,'["studio"]');
CREATE TABLE results (
	job_id VARCHAR(64) NOT NULL, 
	attempt INTEGER NOT NULL, 
	worker INTEGER NOT NULL, 
	result_json TEXT NOT NULL, 
	PRIMARY KEY (job_id, attempt, worker), 
	FOREIGN KEY(job_id) REFERENCES jobs (id)
);
INSERT INTO "results" VALUES('1',1,0,'{"loss":1}');
CREATE TABLE usage (
	account VARCHAR(255) NOT NULL, 
	average FLOAT NOT NULL, 
	at_s FLOAT NOT NULL, 
	PRIMARY KEY (account)
);
INSERT INTO "usage" VALUES('studio',0.25,7.0);
CREATE INDEX jobs_tenant ON jobs (tenant, seq);
CREATE INDEX jobs_state ON jobs (state, seq);
CREATE INDEX jobs_live ON jobs (live, seq);
CREATE INDEX events_job ON events (job_id, seq);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('events',4);
COMMIT;
