-- A store as schema version 8 left it: that of version 7, and a day's requests of a service.
BEGIN TRANSACTION;
CREATE TABLE drains (
	node VARCHAR(255) NOT NULL, 
	reason TEXT NOT NULL, 
	"by" TEXT NOT NULL, 
	at_s FLOAT NOT NULL, 
	deadline_s FLOAT, 
	PRIMARY KEY (node)
);
INSERT INTO "drains" VALUES('n2','fan','wang',3.0,90.0);
CREATE TABLE events (
	seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	job_id VARCHAR(64) NOT NULL, 
	at_s FLOAT NOT NULL, 
	event VARCHAR(64) NOT NULL, 
	state VARCHAR(32) NOT NULL, 
	detail_json TEXT NOT NULL, 
	FOREIGN KEY(job_id) REFERENCES jobs (id)
);
INSERT INTO "events" VALUES(1,'1',1.0,'submitted','pending','{"by":"li"}');
INSERT INTO "events" VALUES(2,'2',1.0,'submitted','pending','{"by":"li"}');
INSERT INTO "events" VALUES(3,'1',2.0,'placed','starting','{}');
INSERT INTO "events" VALUES(4,'1',20.5,'succeeded','succeeded','{}');
INSERT INTO "events" VALUES(5,'2',3.0,'placed','starting','{}');
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
	held_json TEXT, 
	pinned BOOLEAN DEFAULT false NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (seq)
);
INSERT INTO "jobs" VALUES('1',1,'studio','magnet-anneal','training','succeeded',0,'{"name":"magnet-anneal","tenant":"studio","kind":"training","priority_class":"normal","priority":40,"command":["/bin/sh","-c","python train.py > out # 训练"],"model":null,"workers_min":2,"workers_max":2,"alternatives":[{"vendor":null,"model":"H100 SXM","devices":1,"share_milli":0,"cpus_milli":1000,"memory_bytes":0,"simulated":true,"node":null,"site":null,"mig_profile":null,"node_labels":[],"device_labels":[],"linked":false},{"vendor":null,"model":null,"devices":0,"share_milli":250,"cpus_milli":1000,"memory_bytes":0,"simulated":false,"node":"n1","site":null,"mig_profile":null,"node_labels":[],"device_labels":[],"linked":false}],"time_limit_s":3600.0,"retries":2,"checkpoint":{"dir":"/data/ck","grace_s":30.0,"signal":"SIGUSR1","kill_wait_s":5.0},"slo_p99_ms":null,"env":[["A","1"],["B",""]],"working_dir":null,"array_size":0,"array_limit":null,"after":[],"after_any":[],"deadline_after_s":null,"deadline_at_s":1000000000.0,"constraints":{"within":"rack","spread":null,"one_per":"node","apart_from":["db"]},"reservation":"night","schedule":null,"serving":null,"autoscale":null,"canary":null,"hosts":[],"deployed":false}','{"at_s":20.5,"kind":"succeeded"}','li',1.0,20.5,1,0,NULL,NULL,NULL,0,NULL,NULL,0);
INSERT INTO "jobs" VALUES('2',2,'hospital','scan','training','starting',1,'{"name":"scan","tenant":"hospital","kind":"training","priority_class":"normal","priority":40,"command":["/bin/sh","-c","python train.py > out # 训练"],"model":null,"workers_min":2,"workers_max":2,"alternatives":[{"vendor":null,"model":"H100 SXM","devices":1,"share_milli":0,"cpus_milli":1000,"memory_bytes":0,"simulated":true,"node":null,"site":null,"mig_profile":null,"node_labels":[],"device_labels":[],"linked":false},{"vendor":null,"model":null,"devices":0,"share_milli":250,"cpus_milli":1000,"memory_bytes":0,"simulated":false,"node":"n1","site":null,"mig_profile":null,"node_labels":[],"device_labels":[],"linked":false}],"time_limit_s":3600.0,"retries":2,"checkpoint":{"dir":"/data/ck","grace_s":30.0,"signal":"SIGUSR1","kill_wait_s":5.0},"slo_p99_ms":null,"env":[["A","1"],["B",""]],"working_dir":null,"array_size":0,"array_limit":null,"after":[],"after_any":[],"deadline_after_s":null,"deadline_at_s":1000000000.0,"constraints":{"within":"rack","spread":null,"one_per":"node","apart_from":["db"]},"reservation":"night","schedule":null,"serving":null,"autoscale":null,"canary":null,"hosts":[],"deployed":false}','{"workers":[{"placement":{"worker":0,"node":"n1","devices":[0,3],"share_milli":0,"cpus_milli":1000,"memory_bytes":17179869184,"alternative":0},"attempt":1,"phase":"prepared","address":null,"started_s":null,"exit_code":null,"start_heard_s":null,"replaces":null,"unix_path":null}],"since_s":20.0,"kind":"starting"}','li',1.0,NULL,1,0,NULL,NULL,NULL,0,NULL,NULL,0);
CREATE TABLE meta (
	id INTEGER NOT NULL, 
	schema_version INTEGER NOT NULL, 
	epoch INTEGER NOT NULL, 
	next_number INTEGER NOT NULL, 
	next_seq INTEGER NOT NULL, 
	writes INTEGER DEFAULT 0 NOT NULL, 
	leader TEXT, 
	PRIMARY KEY (id)
);
INSERT INTO "meta" VALUES(1,8,2,3,3,8,NULL);
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
INSERT INTO "results" VALUES('1',1,0,'{"loss":1}');
CREATE TABLE schedules (
	tenant VARCHAR(63) NOT NULL, 
	name VARCHAR(100) NOT NULL, 
	spec_json TEXT NOT NULL, 
	"by" TEXT NOT NULL, 
	by_operator BOOLEAN NOT NULL, 
	made_s FLOAT NOT NULL, 
	next_s FLOAT, 
	paused_json TEXT, 
	runs INTEGER NOT NULL, 
	last_job VARCHAR(64), 
	last_s FLOAT, 
	skips INTEGER NOT NULL, 
	skipped_s FLOAT, 
	skipped_why TEXT NOT NULL, 
	PRIMARY KEY (tenant, name)
);
INSERT INTO "schedules" VALUES('studio','nightly','{"name":"magnet-anneal","tenant":"studio","kind":"training","priority_class":"normal","priority":40,"command":["/bin/sh","-c","python train.py > out # 训练"],"model":null,"workers_min":2,"workers_max":2,"alternatives":[{"vendor":null,"model":"H100 SXM","devices":1,"share_milli":0,"cpus_milli":1000,"memory_bytes":0,"simulated":true,"node":null,"site":null,"mig_profile":null,"node_labels":[],"device_labels":[],"linked":false},{"vendor":null,"model":null,"devices":0,"share_milli":250,"cpus_milli":1000,"memory_bytes":0,"simulated":false,"node":"n1","site":null,"mig_profile":null,"node_labels":[],"device_labels":[],"linked":false}],"time_limit_s":3600.0,"retries":2,"checkpoint":{"dir":"/data/ck","grace_s":30.0,"signal":"SIGUSR1","kill_wait_s":5.0},"slo_p99_ms":null,"env":[["A","1"],["B",""]],"working_dir":null,"array_size":0,"array_limit":null,"after":[],"after_any":[],"deadline_after_s":null,"deadline_at_s":1000000000.0,"constraints":{"within":"rack","spread":null,"one_per":"node","apart_from":["db"]},"reservation":"night","schedule":null,"serving":null,"autoscale":null,"canary":null,"hosts":[],"deployed":false}','li',0,1.0,9.0,NULL,0,NULL,NULL,0,NULL,'');
CREATE TABLE services (
	tenant VARCHAR(63) NOT NULL, 
	name VARCHAR(100) NOT NULL, 
	service_json TEXT NOT NULL, 
	PRIMARY KEY (tenant, name)
);
CREATE TABLE usage (
	account VARCHAR(255) NOT NULL, 
	average FLOAT NOT NULL, 
	at_s FLOAT NOT NULL, 
	PRIMARY KEY (account)
);
CREATE TABLE usage_book (
	in_month VARCHAR(7) NOT NULL, 
	of_month VARCHAR(7) NOT NULL, 
	"key" VARCHAR(255) NOT NULL, 
	tenant TEXT NOT NULL, 
	entry_json TEXT NOT NULL, 
	PRIMARY KEY (in_month, of_month, "key"), 
	FOREIGN KEY(in_month) REFERENCES usage_months (month)
);
CREATE TABLE usage_months (
	month VARCHAR(7) NOT NULL, 
	zone TEXT NOT NULL, 
	from_ms BIGINT NOT NULL, 
	to_ms BIGINT NOT NULL, 
	closed_s FLOAT NOT NULL, 
	"by" TEXT NOT NULL, 
	write_number INTEGER NOT NULL, 
	entries INTEGER NOT NULL, 
	sha256 VARCHAR(64) NOT NULL, 
	rates_json TEXT NOT NULL, 
	PRIMARY KEY (month)
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
	cause TEXT NOT NULL, name TEXT DEFAULT '' NOT NULL, site TEXT, models_json TEXT, use_json TEXT, achieved_json TEXT, write_number INTEGER DEFAULT 0 NOT NULL, 
	PRIMARY KEY (job_id, attempt, worker), 
	FOREIGN KEY(job_id) REFERENCES jobs (id)
);
INSERT INTO "usage_records" VALUES('1',1,0,'studio','normal','training','n1','[0, 3]',0,1000,3298534883328,0,10.0625,20.5,1,'succeeded','magnet-anneal',NULL,NULL,NULL,NULL,0);
INSERT INTO "usage_records" VALUES('2',1,0,'hospital','normal','training','n1','[0, 3]',0,1000,3298534883328,0,10.0625,20.5,0,'node lost','scan',NULL,NULL,NULL,NULL,0);
CREATE TABLE usage_served (
	day VARCHAR(10) NOT NULL, 
	tenant VARCHAR(63) NOT NULL, 
	service VARCHAR(100) NOT NULL, 
	simulated BOOLEAN NOT NULL, 
	requests INTEGER NOT NULL, 
	answered INTEGER NOT NULL, 
	within_slo INTEGER NOT NULL, 
	errors INTEGER NOT NULL, 
	PRIMARY KEY (day, tenant, service, simulated)
);
INSERT INTO "usage_served" VALUES('2026-11-01','hospital','scan',0,5,4,3,1);
CREATE INDEX jobs_live ON jobs (live, seq);
CREATE INDEX jobs_state ON jobs (state, seq);
CREATE INDEX jobs_tenant ON jobs (tenant, seq);
CREATE INDEX events_job ON events (job_id, seq);
CREATE INDEX usage_records_tenant ON usage_records (tenant, to_s);
CREATE INDEX usage_records_end ON usage_records (to_s);
CREATE INDEX usage_records_write ON usage_records (write_number);
CREATE INDEX usage_book_key ON usage_book ("key");
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('events',5);
COMMIT;
