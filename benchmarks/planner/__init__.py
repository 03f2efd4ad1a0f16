"""What the planner itself costs, at the size of a ten-thousand-card site: `suanli bench planner`."""
