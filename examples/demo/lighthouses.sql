-- A small table to serve: lighthouses, their heights in metres, and the year in which they were first lit.
CREATE TABLE lighthouses (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    country TEXT NOT NULL,
    height_m REAL NOT NULL,
    lit INTEGER NOT NULL
);

INSERT INTO lighthouses (name, country, height_m, lit) VALUES
    ('Tower of Hercules', 'Spain', 55.0, 110),
    ('Lanterna', 'Italy', 77.0, 1543),
    ('Cordouan', 'France', 67.5, 1611),
    ('Boston Light', 'United States', 27.0, 1716),
    ('Bell Rock', 'United Kingdom', 35.0, 1811),
    ('Chania', 'Greece', 21.0, 1839),
    ('Skerryvore', 'United Kingdom', 48.0, 1844),
    ('Sambro Island', 'Canada', 25.0, 1758),
    ('Fastnet Rock', 'Ireland', 54.0, 1904),
    ('Cape Hatteras', 'United States', 64.0, 1870),
    ('Ar Men', 'France', 33.5, 1881),
    ('Roter Sand', 'Germany', 28.0, 1885),
    ('Peggys Point', 'Canada', 15.0, 1868),
    ('Macquarie', 'Australia', 26.0, 1818),
    ('Cape Byron', 'Australia', 18.0, 1901),
    ('Les Eclaireurs', 'Argentina', 11.0, 1920),
    ('Ile Vierge', 'France', 82.5, 1902),
    ('Kopu', 'Estonia', 36.0, 1531),
    ('Lindesnes', 'Norway', 16.1, 1656),
    ('Hook Head', 'Ireland', 35.0, 1200),
    ('Punta Penna', 'Italy', 70.0, 1906),
    ('Jeddah Light', 'Saudi Arabia', 133.0, 1990),
    ('Yokohama Marine Tower', 'Japan', 101.0, 1961),
    ('Perry Memorial', 'United States', 107.0, 1915);
