"""Short checks of devices that nobody uses: is what they compute, keep and pass on right, and how fast are they?"""
