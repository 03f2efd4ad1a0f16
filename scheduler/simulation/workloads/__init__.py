"""Where simulated work comes from: files of jobs, pods and requests, and a generator."""
