-- Where the rows live.

-- ALTER TABLE customers SET LOCALITY PINNED BY (country) USING country_region WITH (move = true);
select domicile.set_locality('customers', 'pinned', by => '{country}', mapping => 'country_region', move => true);

-- ALTER TABLE orders SET LOCALITY PINNED WITH customers (customer_id) WITH (move = true);
select domicile.set_locality('orders', 'pinned', by => '{customer_id}', parent => 'customers', move => true);

-- ALTER TABLE order_items SET LOCALITY PINNED WITH orders (order_id) WITH (move = true);
select domicile.set_locality('order_items', 'pinned', by => '{order_id}', parent => 'orders', move => true);

-- ALTER TABLE countries SET LOCALITY GLOBAL;
select domicile.set_locality('countries', 'global');

-- ALTER TABLE products SET LOCALITY GLOBAL;
select domicile.set_locality('products', 'global');
