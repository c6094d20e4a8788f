-- Who works with the shop. Their passwords are random and differ from region to region; the program sets them.

grant select, insert, update, delete on customers, orders, order_items to app;
grant select on countries, country_region, products to app;
grant select on all tables in schema public to analyst;
