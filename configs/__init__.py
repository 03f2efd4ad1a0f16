"""Configuration that ships with Suanli: sites, goals, hardware, priority classes, tenants, example jobs."""
